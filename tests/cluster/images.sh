#!/usr/bin/env bash
# Builds what the cluster's tests need where no image can be pulled, and loads it into the cluster: a Debian 12 from
# Debian's packages, Mekiki's four images on it, an S3 server and Prometheus with its adapter.
#
#   images.sh VERSITYGW PROMETHEUS_ADAPTER     the programs; Prometheus itself is Debian's
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export DOCKER=${DOCKER:-/usr/bin/docker} DOCKER_ARGS="--network=host" # Debian's docker builds with BuildKit by itself
for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
  [ -z "$bundle" ] || [ ! -f "$bundle" ] || { export CA_BUNDLE=$bundle; break; }
done
if ! $DOCKER image inspect debian:bookworm-slim >/dev/null 2>&1; then
  command -v debootstrap >/dev/null || apt-get install --yes --no-install-recommends debootstrap
  root=$(mktemp --directory)
  debootstrap --variant=minbase bookworm "$root" >/dev/null
  tar --directory "$root" --create . | $DOCKER import - debian:bookworm-slim
  rm --recursive --force --one-file-system "$root"
fi

wrap() { # IMAGE NAME=PROGRAM...: an image of Debian with programs in its root
  local context pair image=$1; shift
  context=$(mktemp --directory)
  for pair; do cp "${pair#*=}" "$context/${pair%%=*}"; done
  printf 'FROM debian:bookworm-slim\nCOPY . /\n' | DOCKER_BUILDKIT=1 $DOCKER build --quiet --tag "$image" --file - "$context"
  rm --recursive "$context"
}
"$here/../../docker/images.sh"
wrap mekiki-test-objects:1.8.0 versitygw="$1"
wrap mekiki-test-sight:1 adapter="$2" prometheus="$(command -v prometheus)"
"$here/cluster.sh" load mekiki-{codec,boxfit,saliency,anomaly}:0.1.0 mekiki-test-objects:1.8.0 mekiki-test-sight:1
