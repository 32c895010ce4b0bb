#!/usr/bin/env bash
# Builds the images of the given services (default: all four) as mekiki-<service>:<tag>, and prints their sizes.
#
#   MEKIKI_TAG=0.1.0     the tag
#   BASE_IMAGE=...       a Debian 12 to start from
#   CA_BUNDLE=FILE       certificates, where a proxy has a CA of its own; a secret of the build, in no layer
#   TORCH_INDEX=URL      other builds of torch, such as those for the CPU alone
#   DOCKER_ARGS="..."    further arguments of docker build, such as --network=host
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${MEKIKI_TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)}
epoch=$(git log -1 --format=%ct)
arguments=(--build-arg "VERSION=$tag" --build-arg "REVISION=$(git rev-parse HEAD)" --build-arg "SOURCE_DATE_EPOCH=$epoch"
  --build-arg "CREATED=$(date --utc --date="@$epoch" +%Y-%m-%dT%H:%M:%SZ)")
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -z "${TORCH_INDEX:-}" ] || arguments+=(--build-arg "TORCH_INDEX=$TORCH_INDEX")
arguments+=(--secret "id=ca,src=${CA_BUNDLE:-/dev/null}")
mkdir -p build/images
for service in ${*:-codec boxfit saliency anomaly}; do
  # shellcheck disable=SC2086 # DOCKER_ARGS is a list
  DOCKER_BUILDKIT=1 ${DOCKER:-docker} build --file docker/Dockerfile "${arguments[@]}" --build-arg "SERVICE=$service" \
    --tag "mekiki-$service:$tag" ${DOCKER_ARGS:-} .
  container=$(${DOCKER:-docker} create "mekiki-$service:$tag")
  ${DOCKER:-docker} cp "$container:/app/sbom.cdx.json" "build/images/$service.cdx.json"
  ${DOCKER:-docker} rm "$container" >/dev/null
done
${DOCKER:-docker} image ls --filter "reference=mekiki-*:$tag" --format 'table {{.Repository}}:{{.Tag}}\t{{.Size}}'
