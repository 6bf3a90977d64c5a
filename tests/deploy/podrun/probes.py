"""One attempt of a probe, made as by a kubelet: from the node, to the pod's address, in plain text."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from podrun.manifest import Probe


def attempt(probe: Probe, address: str, container: str) -> str:
    """Probes once; returns an empty string, or why the container failed the probe."""
    if probe.kind == "grpc":
        return _grpc(probe, address)
    if probe.kind == "httpGet":
        return _http(probe, address)
    if probe.kind == "tcpSocket":
        return _tcp(probe, address)
    return _exec(probe, container)


def _grpc(probe: Probe, address: str) -> str:
    with grpc.insecure_channel(f"{address}:{probe.port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # the stubs don't know it
        try:
            answer = check(health_pb2.HealthCheckRequest(service=probe.service), timeout=probe.timeout)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        return "" if serving else health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _http(probe: Probe, address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{probe.port}{probe.path}", timeout=probe.timeout):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code}: {error.read(200).decode(errors='replace').strip()}"
    except OSError as error:
        return str(error)


def _tcp(probe: Probe, address: str) -> str:
    try:
        socket.create_connection((address, probe.port), timeout=probe.timeout).close()
    except OSError as error:
        return str(error)
    return ""


def _exec(probe: Probe, container: str) -> str:
    words = ["/usr/bin/docker", "exec", container, *probe.command]
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=probe.timeout + 1
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {probe.timeout:g} s"
    return "" if done.returncode == 0 else f"exit {done.returncode}: {done.stdout.strip()}"
