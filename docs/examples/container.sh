#!/usr/bin/env bash
# Build the image, start it with as few rights as it needs, score an event, and stop it.
#   container.sh    (from the top of the repository; ENGINE=docker uses Docker)
set -euo pipefail
engine=${ENGINE:-podman}

# The OCI format has no health check; Docker's has, and is Docker's default.
if [ "$engine" = podman ]; then format="--format docker"; else format=""; fi
# shellcheck disable=SC2086
"$engine" build $format -t lhc-anomaly -f Containerfile .

name=lhc-anomaly-example
"$engine" run --detach --rm --name "$name" --read-only --cap-drop=all --security-opt=no-new-privileges \
    -p 127.0.0.1:8000:8000 lhc-anomaly
trap '"$engine" stop "$name"' EXIT

curl -sf --retry 30 --retry-delay 1 --retry-all-errors http://localhost:8000/health
curl -sf http://localhost:8000/score -H 'content-type: application/json' \
    -d '{"features": [-1205.6, 641.3, 88.1, 212.4, 160.2, 58.1, 33.0, 1188.2, -655.9, 402.7, 95.3, 41.8, 25.7, 18.2]}'
