#!/usr/bin/env bash
# Build the images on a machine without a container engine: by Debian's buildah, whose containers
# are mere chroots here, over a Debian that debootstrap makes.
#
# Hardware: 2 cores, 4 GB of memory, 10 GB of disk (cuda: 60 GB), root, Debian 12 or later.
#
#   apt-get install buildah debootstrap
#   bash docker/build_with_buildah.sh spark-job trainer       # 5 to 10 minutes
#   DEVICE=cuda bash docker/build_with_buildah.sh trainer
#   python docker/run_with_buildah.py                         # the services of compose.yaml
#
# Knobs:
#   DEVICE       of the trainer: cpu (default) or cuda
#   STORAGE      folder for images (/var/tmp/sessionwise-images)
#   BASE_IMAGE   made by debootstrap unless it is there (localhost/debian:bookworm)
#   MIRROR       of Debian (http://deb.debian.org/debian)
#   BUILD_FLAGS  more of `buildah build`, for instance --env PIP_... or --volume certificates
set -euo pipefail
cd "$(dirname "$0")/.."
STORAGE=${STORAGE:-/var/tmp/sessionwise-images}
BASE_IMAGE=${BASE_IMAGE:-localhost/debian:bookworm}
DEVICE=${DEVICE:-cpu}
read -ra flags <<<"${BUILD_FLAGS:-}"
export BUILDAH_ISOLATION=chroot

run_buildah() { buildah --root "$STORAGE/root" --runroot "$STORAGE/run" "$@"; }

make_base() {
    local container
    container=$(run_buildah from scratch)
    debootstrap --variant=minbase bookworm "$(run_buildah mount "$container")" \
        "${MIRROR:-http://deb.debian.org/debian}"
    run_buildah umount "$container"
    run_buildah commit --rm --disable-compression "$container" "$BASE_IMAGE"
}

build() { # Dockerfile, tag, flags
    run_buildah build --layers --build-arg BASE_IMAGE="$BASE_IMAGE" "${flags[@]}" \
        --file "docker/$1" --tag "$2" --ignorefile .dockerignore "${@:3}" .
}

[[ $# -gt 0 ]] || { echo "usage: bash $0 spark-job|trainer ..., see its first lines" >&2; exit 2; }
run_buildah inspect --type image "$BASE_IMAGE" >/dev/null 2>&1 || make_base
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
for image in "$@"; do
    case "$image" in
    spark-job) build spark.Dockerfile "sessionwise/spark-job:$version" ;;
    trainer) build Dockerfile "sessionwise/trainer:$version-$DEVICE" --build-arg DEVICE="$DEVICE" ;;
    *) echo "image must be spark-job or trainer, got: $image" >&2; exit 2 ;;
    esac
done
run_buildah images
