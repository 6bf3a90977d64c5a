#!/usr/bin/env bash
# A private Docker engine for builds and pods, separate from any other on the machine.
#   ci/engine.sh up DIR      starts it; its socket is DIR/docker.sock
#   ci/engine.sh down DIR    removes its containers, stops it by its process id, and deletes DIR
# It has no bridge (builds use the host's network, pods get theirs from tests/deploy/podrun), so it needs no iptables
# rules and works inside containers and small virtual machines. Needs root and Debian's docker.io.
set -euo pipefail
action=${1:?up or down} dir=${2:?folder}
export DOCKER_HOST=unix://$dir/docker.sock
docker=/usr/bin/docker

up() {
  mkdir -p "$dir"
  setsid nohup /usr/sbin/dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
    --host "$DOCKER_HOST" --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --shutdown-timeout 5 >"$dir/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    "$docker" version >/dev/null 2>&1 && return
    sleep 0.2
  done
  tail -n 20 "$dir/dockerd.log" >&2
  return 1
}

down() {
  [ -d "$dir" ] || return 0
  containers=$("$docker" ps --all --quiet 2>/dev/null || true)
  # shellcheck disable=SC2086 # one word for each container
  [ -z "$containers" ] || "$docker" rm --force $containers >/dev/null
  if pid=$(cat "$dir/dockerd.pid" 2>/dev/null); then
    kill "$pid"
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.2
    done
  fi
  # Containers with the host's network leave a mount, which can't be deleted.
  umount "$dir"/exec/netns/* 2>/dev/null || true
  rm -rf "$dir"
}

"$action"
