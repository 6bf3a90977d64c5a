#!/usr/bin/env bash
# Builds the images on a private engine and runs everything in tests/deploy: manifests, validators, pods, compose, the
# wheel. Leaves sizes, digests and SBOMs in out/images, and no process running. Needs root, for the engine.
#   ci/ship.sh BIN [ARGUMENT...]      BIN: bin/ of the tests' environment; the arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:?bin folder of the environment}
shift
begin=$SECONDS
say() { printf -- '--- %s (%d s)\n' "$1" $((SECONDS - begin)); }

say "tools"
ci/tools.sh .venv/ship
PATH=$PWD/.venv/ship/bin:$PATH

say "engine"
engine=$(mktemp -d /tmp/hand-counter-engine.XXXXXX)
trap 'ci/engine.sh down "$engine"' EXIT
ci/engine.sh up "$engine"
export DOCKER_HOST=unix://$engine/docker.sock

say "base images"
ci/base.sh
say "images"
ci/images.sh
say "tests"
HAND_COUNTER_SHIP=1 "$bin/pytest" tests/deploy "$@"
say "done"
