#!/usr/bin/env bash
# Where no image can be pulled: an object store from the program $1, and a Prometheus from Debian's package, each laid out
# as its public image is. Their names come out as variables of docker/compose.yaml. Grafana is in no package of Debian's.
set -euo pipefail
docker=${DOCKER:-docker}
base=${BASE_IMAGE:-debian:bookworm-slim}
$docker image inspect "$base" >/dev/null || { echo "needs $base: tests/cluster/images.sh makes it from Debian's packages" >&2; exit 1; }
for program in prometheus promtool; do
  command -v $program >/dev/null || { echo "needs $program: apt-get install prometheus" >&2; exit 1; }
done
context=$(mktemp --directory)
trap 'rm --recursive "$context"' EXIT
cp "$1" "$context/versitygw"
cp "$(command -v prometheus)" "$(command -v promtool)" "$context"
cat >"$context/objects" <<END
FROM $base
COPY versitygw /usr/local/bin/versitygw
ENTRYPOINT ["/usr/local/bin/versitygw"]
END
cat >"$context/metrics" <<END
FROM $base
COPY prometheus promtool /bin/
RUN mkdir /prometheus && chown 65534:65534 /prometheus
ENTRYPOINT ["/bin/prometheus"]
END
for image in objects metrics; do
  $docker build --quiet --file "$context/$image" --tag "mekiki-stand-in-$image:1.0.0" "$context" >&2
done
echo OBJECTS_IMAGE=mekiki-stand-in-objects:1.0.0
echo PROMETHEUS_IMAGE=mekiki-stand-in-metrics:1.0.0
