"""With --log-format json every line on standard error is JSON, whoever writes it, in all programs that run for long."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import programs
from support.processes.ports import free_port
from support.processes.sidecars import sidecar_process
from support.waiting import wait_until

NO_REDIS = "redis://127.0.0.1:1"
SPEAKING_GRPC = {"GRPC_VERBOSITY": "debug", "GRPC_TRACE": "http"}


def entries(log: str) -> list[dict[str, object]]:
    """Returns the lines of a log; each must be JSON."""
    return [json.loads(line) for line in log.splitlines()]


@pytest.fixture(params=["sidecar", "console.web", "worker run", "worker ingest"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[programs.Process, Path]]:
    """A running program with its log."""
    log = tmp_path / "log"
    module = request.param.partition(" ")[0]
    (tmp_path / "cameras.yaml").write_text("cameras:\n- name: a\n  source: synthetic:fps=1\n")
    flags = {
        "sidecar": ("--listen", f"unix:{tmp_path}/s", "--http", ""),
        "console.web": ("--listen", f"127.0.0.1:{free_port()}"),
        "worker run": ("run", "--http", "", "--sidecar", "127.0.0.1:1"),
        "worker ingest": ("ingest", str(tmp_path / "cameras.yaml"), "--http", ""),
    }[request.param]
    with log.open("wb") as output:
        process = programs.start(module, *flags, "--redis-url", NO_REDIS, "--log-format", "json", output=output)
    try:
        wait_until(lambda: log.read_text().count("\n") > 0 or process.poll() is not None, "the first line")
        yield process, log
    finally:
        programs.end(process)


def test_the_trace_of_a_crash_is_json(program: tuple[programs.Process, Path]) -> None:
    """That of a library which aborts the process."""
    process, log = program
    os.kill(process.pid, signal.SIGABRT)
    assert process.wait(60) == -signal.SIGABRT
    wait_until(lambda: "most recent call first" in log.read_text(), "the trace")
    assert any("Fatal Python error: Aborted" in str(entry.get("line")) for entry in entries(log.read_text()))


def test_grpcs_own_lines_are_json(tmp_path: Path) -> None:
    """Those that a user asks for by its variables, in the server and in its probe."""
    log = tmp_path / "log"
    with sidecar_process("--log-format", "json", environment=SPEAKING_GRPC, fresh=True) as sidecar:
        with log.open("wb") as output:
            variables = {**SPEAKING_GRPC, "SIDECAR_LOG_FORMAT": "json"}
            probe = programs.start("sidecar.probe", sidecar.address, output=output, environment=variables, fresh=True)
            assert probe.wait(60) == 0
        sidecar.terminate()
        sidecar.wait()
        for text in (sidecar.logs, log.read_text):
            wait_until(lambda text=text: "chttp2" in text(), "what was written at the very end")
            assert any("chttp2" in str(entry.get("line")) for entry in entries(text()))


@pytest.mark.parametrize(("module", "prefix"), [("sidecar.probe", "SIDECAR"), ("worker.probe", "WORKER")])
@pytest.mark.parametrize(("address", "code"), [("127.0.0.1:1", 1), ("nowhere", 2)])
def test_probes_tell_their_reason_as_json(module: str, prefix: str, address: str, code: int) -> None:
    """As the program that they ask does."""
    done = programs.run(module, address, environment={f"{prefix}_LOG_FORMAT": "json"})
    (entry,) = entries(done.stderr)
    assert (done.returncode, address in str(entry["line"])) == (code, True)
