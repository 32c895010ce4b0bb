#!/usr/bin/env bash
# Builds what the cluster's tests need where no image can be pulled, and loads it into the cluster:
# a Debian 12 from Debian's packages, Mekiki's four images on it, and the S3 server whose program is $1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
versitygw=$1
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
"$here/../../docker/images.sh"
context=$(mktemp --directory)
cp "$versitygw" "$context/versitygw"
printf 'FROM debian:bookworm-slim\nCOPY versitygw /versitygw\n' >"$context/Dockerfile"
DOCKER_BUILDKIT=0 $DOCKER build --quiet --tag mekiki-test-objects:1.8.0 "$context"
rm --recursive "$context"
for image in mekiki-{codec,boxfit,saliency,anomaly}:0.1.0 mekiki-test-objects:1.8.0; do
  "$here/cluster.sh" load "$image"
done
