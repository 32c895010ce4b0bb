#!/usr/bin/env bash
# Brings docker/compose.yaml up and waits until all of it is healthy, or takes it down: see `make up` and `make down`.
#
#   compose.sh up          builds images that are missing first
#   compose.sh down        removes containers and networks; the data stay
#   compose.sh wipe        removes the data as well
#   compose.sh ARGUMENTS   anything else that docker compose takes: logs anomaly, ps, ...
#
#   DOCKER=docker              the client
#   COMPOSE_PROFILES=          (empty) without Grafana
#   COMPOSE_PROJECT_NAME       another set of containers and volumes; default mekiki
#   UP_TIMEOUT_S=300           longest wait
# docker/compose.yaml names what else it takes from the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
docker=${DOCKER:-docker}
services="anomaly codec saliency boxfit"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../pyproject.toml" | head -1)
export MEKIKI_TAG=${MEKIKI_TAG:-$version} COMPOSE_PROFILES=${COMPOSE_PROFILES-grafana}
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-mekiki}
if $docker compose version >/dev/null 2>&1; then
  compose=("$docker" compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  echo "compose.sh: needs docker's compose plugin or docker-compose" >&2
  exit 1
fi
compose+=(--file "$here/compose.yaml")

build_missing() {
  local missing=()
  for service in $services; do
    $docker image inspect "mekiki-$service:$MEKIKI_TAG" >/dev/null 2>&1 || missing+=("$service")
  done
  [ ${#missing[@]} -eq 0 ] || "$here/images.sh" "${missing[@]}"
}

# Of every container that is checked, what its check says; one that keeps ending shows as starting or restarting.
tell_health() {
  # shellcheck disable=SC2046 # a list of ids
  $docker inspect --format \
    '{{index .Config.Labels "com.docker.compose.service"}} {{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' \
    $("${compose[@]}" ps --all --quiet)
}

wait_until_healthy() {
  local deadline=$((SECONDS + ${UP_TIMEOUT_S:-300})) health waiting
  while true; do
    health=$(tell_health)
    waiting=$(grep -vE '^bucket | (healthy|running)$' <<<"$health") || return 0
    if [ $SECONDS -ge $deadline ]; then
      echo "compose.sh: after ${UP_TIMEOUT_S:-300} s still not healthy; see $0 logs" >&2
      echo "$waiting" >&2
      exit 1
    fi
    sleep 1
  done
}

tell_addresses() {
  local address=anomaly=127.0.0.1:8080,codec=127.0.0.1:8081,saliency=127.0.0.1:8082,boxfit=127.0.0.1:8083
  echo "Mekiki runs on this machine. To speak to it:"
  echo "  mekiki context set compose --address $address"
  echo "  mekiki context use compose && mekiki status && mekiki demo --running"
  echo "Prometheus: http://127.0.0.1:9090"
  case ",$COMPOSE_PROFILES," in *,grafana,*) echo "Grafana:    http://127.0.0.1:3000" ;; esac
}

case ${1:-} in
  up)
    build_missing
    "${compose[@]}" up --detach
    wait_until_healthy
    tell_addresses
    ;;
  down) COMPOSE_PROFILES=grafana "${compose[@]}" down ;;
  wipe) COMPOSE_PROFILES=grafana "${compose[@]}" down --volumes ;;
  *) "${compose[@]}" "$@" ;;
esac
