#!/usr/bin/env bash
# Build the image without a registry: with buildah, on two bases made of Debian's packages, which have Python 3.11.
#   deploy/image/build.sh    (as root; needs buildah and mmdebstrap)
# Where a proxy answers for the package index, SSL_CERT_FILE names the authorities that the build is to trust, and
# PIP_CONFIG_FILE the settings of pip. The build sees both as mounted files; the image has neither.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=localhost/lhc-anomaly
builder=localhost/python:3.11
base=localhost/python:3.11-slim
store=build/image

mkdir -p "$store"
# Without it buildah takes no image, not even one of its own.
echo '{"default": [{"type": "insecureAcceptAnything"}]}' > "$store/policy.json"

run() {
    buildah --root "$store/storage" --runroot "$store/run" --storage-driver overlay "$@"
}

# Commit Debian's packages $2 as the image $1, once; the command $3 is then run on the folder "$1".
debian() {
    if run inspect --type image "$1" > "$store/inspected" 2>&1; then return; fi
    container=$(run from scratch)
    folder=$(run mount "$container")
    mmdebstrap --variant=minbase --include="$2" --customize-hook="$3" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$folder"
    run commit --rm --signature-policy "$store/policy.json" "$container" "$1"
}

# As in the images of Python, /usr/local has a python and a pip that Debian's packages do not own.
debian "$builder" python3-venv,python3-dev,gcc,libc6-dev \
    "chroot \"\$1\" python3 -m venv /usr/local && tar --directory \"\$1\" --create usr/local > $PWD/$store/local.tar"
debian "$base" python3 "tar --directory \"\$1\" --extract < $PWD/$store/local.tar"

mounts=()
if [ -n "${SSL_CERT_FILE:-}" ]; then
    mounts+=(--volume "$(realpath "$SSL_CERT_FILE"):/etc/ssl/certs/ca-certificates.crt:ro")
fi
if [ -n "${PIP_CONFIG_FILE:-}" ]; then
    mounts+=(--volume "$(realpath "$PIP_CONFIG_FILE"):/etc/pip.conf:ro")
fi
# The OCI format has no health check.
run build --isolation chroot --format docker --pull-never --layers --signature-policy "$store/policy.json" \
    --build-arg BUILD_IMAGE="$builder" --build-arg BASE_IMAGE="$base" ${mounts[@]+"${mounts[@]}"} --tag "$image" .
run images --format '{{.Name}}:{{.Tag}} {{.Size}}' "$image"
