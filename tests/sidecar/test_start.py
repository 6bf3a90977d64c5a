"""What a start imports: a start is little else than imports, so it does without those that it doesn't need."""

import gc
import importlib.util
import re
import subprocess
import sys
from collections.abc import Collection

import pytest
from support.processes.programs import repository_environment
from support.processes.sidecars import sidecar_process

from sidecar.__main__ import main

TELL_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}

DEBUGGING = frozenset({"grpc_channelz.v1", "grpc_reflection.v1alpha", "google.protobuf.json_format"})
"""What channelz and reflection need, a tenth of a start."""

TRACING = frozenset({"sidecar.telemetry.tracing", "opentelemetry.exporter", "opentelemetry.sdk.trace"})


def imported(log: str, names: Collection[str]) -> set[str]:
    """Returns which of these modules a process imported, by its log.

    Fails for a name that isn't a module's, so that a moved module can't make a test pass forever.
    """
    unknown = [name for name in names if importlib.util.find_spec(name) is None]
    assert unknown == []
    modules = set(re.findall(r"^import time:.*\|\s+(\S+)$", log, re.MULTILINE))
    assert "encodings" in modules
    packages = {module[: dot.start()] for module in modules for dot in re.finditer(r"\.", module)}
    return {*names} & (modules | packages)


@pytest.mark.parametrize("scope", ["pod", "fleet"])
def test_serving_loads_nothing_that_nobody_asked_for(scope: str) -> None:
    """OpenTelemetry's SDK, half a second of imports, waits for --otlp-endpoint; channelz and reflection for a call."""
    traceable = importlib.util.find_spec("opentelemetry") is not None
    lazy = DEBUGGING | {"sidecar.check"} | (TRACING if traceable else set())
    served = {"sidecar.server", "sidecar.rpc.debugging", "grpc"}
    with sidecar_process("--scope", scope, environment=TELL_IMPORTS) as sidecar:
        assert imported(sidecar.logs(), lazy | served) == served


def test_tracing_is_loaded_when_asked() -> None:
    """With --otlp-endpoint the same look at the imports finds tracing."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra otel")
    with sidecar_process("--otlp-endpoint", "http://127.0.0.1:1", environment=TELL_IMPORTS) as sidecar:
        assert imported(sidecar.logs(), TRACING) == TRACING


def test_a_name_that_is_no_module_fails() -> None:
    """A guard that names modules doesn't pass because a name matches nothing."""
    with pytest.raises(AssertionError, match="fps_follower"):
        imported("import time: 1 | 1 | encodings", ["sidecar.limits.fps_follower"])


def test_help_loads_no_grpc() -> None:
    """What the command needs no server or client for comes without the time of that import."""
    command = [sys.executable, "-m", "sidecar", "--help"]
    done = subprocess.run(command, env=repository_environment(TELL_IMPORTS), capture_output=True, text=True, timeout=60)
    assert imported(done.stderr, ["grpc", "sidecar.settings"]) == {"sidecar.settings"}


def test_garbage_is_collected_once_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector is off while the program loads, and on when it runs and after wrong usage."""
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
