"""What a start loads: a start is little else than imports, so each must be asked for."""

import gc
import re
import subprocess
import sys

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from support.processes.programs import repository_environment
from support.processes.sidecars import sidecar_process

from sidecar.__main__ import main

TELL_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}

NOT_BY_DEFAULT = {
    "grpc_channelz.v1",
    "grpc_reflection.v1alpha",
    "google.protobuf.json_format",
    "opentelemetry.exporter",
    "opentelemetry.sdk.trace",
    "sidecar.check",
    "sidecar.fleet.claim_queue",
    "sidecar.fleet.claims",
    "sidecar.fleet.fleet",
    "sidecar.fleet.limiter",
    "sidecar.fleet.scope",
    "sidecar.fleet.heartbeat",
    "sidecar.probe",
    "sidecar.connections.link",
    "sidecar.rpc.reflection",
    "sidecar.telemetry.tracing",
}


def imported(log: str) -> set[str]:
    """The modules, and the packages that they are in, that a process has told it imported."""
    modules = re.findall(r"^import time:.*\|\s+(\S+)$", log, re.MULTILINE)
    assert "sys" in modules or "encodings" in modules
    return {module[:end] for module in modules for end in (*(dot.start() for dot in re.finditer(r"\.", module)), None)}


def test_the_default_settings_load_nothing_they_dont_ask_for():
    """Fleet scope, traces, channelz and reflection aren't imported by a sidecar that serves without them."""
    with sidecar_process(environment=TELL_IMPORTS) as sidecar:
        loaded = imported(sidecar.logs())
        assert loaded & NOT_BY_DEFAULT == set()
        assert {"sidecar.server", "sidecar.deciding.limiter"} <= loaded
        with grpc.insecure_channel(sidecar.address) as channel:
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            assert stub.GetServers(channelz_pb2.GetServersRequest(), timeout=20).server
        assert {"grpc_channelz.v1", "grpc_reflection.v1alpha"} <= imported(sidecar.logs())


def test_fleet_scope_is_loaded_where_it_is_asked_for():
    """The same look finds the modules of fleet scope in a sidecar that has it."""
    with sidecar_process("--scope", "fleet", environment=TELL_IMPORTS) as sidecar:
        assert {"sidecar.fleet.scope", "sidecar.fleet.limiter"} <= imported(sidecar.logs())


@pytest.mark.parametrize("flags", [["--help"], ["--check", "--redis-url", "redis://127.0.0.1:1"]])
def test_grpc_is_loaded_only_to_serve(flags: list[str]):
    """What ends without serving doesn't load gRPC."""
    command = [sys.executable, "-m", "sidecar", *flags]
    done = subprocess.run(command, env=repository_environment(TELL_IMPORTS), capture_output=True, text=True, timeout=60)
    assert "grpc" not in imported(done.stderr)


def test_garbage_is_collected_once_it_serves(monkeypatch: pytest.MonkeyPatch):
    """The collector rests while the program is loaded, and works when it runs and after wrong usage."""
    seen = []

    async def serve(_: object) -> int:
        seen.append(gc.isenabled())
        return 7

    monkeypatch.setattr("sidecar.server.serve", serve)
    monkeypatch.setattr("process.logs.set_up", lambda *_: seen.append(gc.isenabled()))
    try:
        assert main([]) == 7
        assert seen == [False, True]
        with pytest.raises(SystemExit):
            main(["--fps", "many"])
        assert gc.isenabled()
    finally:
        gc.unfreeze()
