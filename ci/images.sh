#!/usr/bin/env bash
# Builds both images and writes their sizes, digests and SBOMs (SPDX and CycloneDX, by syft) to out/.
#   ci/images.sh                 needs DOCKER_HOST; syft on the PATH
#   TORCH=cpu ci/images.sh       the worker with torch as well, as localhost/hand-counter/worker:VERSION-cpu
# PIP_FIND_LINKS and PIP_EXTRA_INDEX_URL are passed to the build if they are set.
set -euo pipefail
cd "$(dirname "$0")/.."
docker=/usr/bin/docker
export DOCKER_BUILDKIT=1
torch=${TORCH:-none}
version=$(awk -F '"' '/^version = / {print $2; exit}' pyproject.toml)
revision=$(git rev-parse HEAD)
# The time of the commit, not of the build: the same commit gives the same labels.
created=$(git show --no-patch --format=%cI HEAD)
out=out/images
mkdir -p "$out"

# build PROGRAM TAG [ARGUMENT...]
build() {
  local program=$1 image=localhost/hand-counter/$1:$2 begin=$SECONDS
  shift 2
  "$docker" build --quiet --network host --file "Dockerfile.$program" --tag "$image" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg CREATED="$created" \
    ${PIP_FIND_LINKS:+--build-arg PIP_FIND_LINKS="$PIP_FIND_LINKS"} "$@" . >/dev/null
  printf '%s built in %d s\n' "$image" $((SECONDS - begin))
}

megabytes() { "$docker" image inspect --format '{{.Size}}' "$1" | awk '{printf "%.0f", $1 / 1e6}'; }

describe() {
  local image name
  {
    printf 'image\tMB\tMB over its base\tdigest\n'
    for image in "$@"; do
      printf '%s\t%s\t%s\t%s\n' "$image" "$(megabytes "$image")" \
        $(($(megabytes "$image") - $(megabytes python:3.11-slim-bookworm))) \
        "$("$docker" image inspect --format '{{.Id}}' "$image")"
    done
  } | tee "$out/images.tsv"
  for image in "$@"; do
    name=$(tr '/:' '--' <<<"$image")
    syft scan --quiet "docker:$image" --output "spdx-json=$out/$name.spdx.json" --output "cyclonedx-json=$out/$name.cdx.json"
    printf '%s.{spdx,cdx}.json\n' "$out/$name"
  done
}

images=("localhost/hand-counter/sidecar:$version" "localhost/hand-counter/worker:$version")
build sidecar "$version"
build worker "$version"
if [ "$torch" != none ]; then
  build worker "$version-$torch" --build-arg TORCH="$torch" \
    ${PIP_EXTRA_INDEX_URL:+--build-arg PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL"}
  images+=("localhost/hand-counter/worker:$version-$torch")
fi
describe "${images[@]}"
