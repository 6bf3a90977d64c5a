"""What native libraries write to standard error, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes.namespaces import needs_namespaces, pid_of_first, start_first
from support.processes.programs import REPOSITORY, repository_environment

from process.native_lines import copy_lines

START = """
import os
if "COVERAGE_PROCESS_START" in os.environ:
    import coverage
    coverage.process_startup()
import ctypes, logging, os, sys, threading, warnings
from process import logs
from process.native_lines import capture
native = ctypes.PyDLL(None)  # calls with it hold the interpreter's lock, as an extension module may
def puts(text):
    native.write(2, text, len(text))
logs.set_up("info", "json")
"""


def environment() -> dict[str, str]:
    """Returns that of a program, which is measured if the test is."""
    measured = "coverage" in sys.modules and sys.modules["coverage"].Coverage.current()
    return repository_environment({"COVERAGE_PROCESS_START": str(REPOSITORY / "pyproject.toml")} if measured else None)


def run(program: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Runs a program whose lines are captured."""
    return subprocess.run(
        [sys.executable, "-c", f"{START}capture('json')\n{program}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )


def entries(done: "subprocess.CompletedProcess[str]") -> list[dict[str, object]]:
    """Returns the lines on standard error; each must be JSON."""
    return [json.loads(line) for line in done.stderr.splitlines()]


def foreign(done: "subprocess.CompletedProcess[str]") -> list[object]:
    """Returns the lines that others wrote."""
    return [entry["line"] for entry in entries(done) if entry["logger"] == "stderr"]


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\nt", b"wo"], ["one", "two"]),
        ([b" 10 %\r 20 %\r\n"], ["10 %", "20 %"]),
        ([b"\n\n \n"], []),
        ([b"x" * 2500], ["x" * 1000, "x" * 1000, "x" * 500]),
        ([b"y" * 2500 + b"\n"], ["y" * 1000, "y" * 1000, "y" * 500]),
        ([b"\xe4\n"], ["\\xe4"]),
    ],
)
def test_bytes_become_lines(written: list[bytes], lines: list[str]) -> None:
    """Whatever the pieces in which they arrive; a progress bar's carriage return ends a line too."""
    (source, sink), (ours, target) = os.pipe(), os.pipe()
    for piece in written:
        os.write(sink, piece)
    os.close(sink)
    copy_lines(source, target)
    os.close(target)
    with os.fdopen(ours) as result:
        assert [json.loads(line)["line"] for line in result] == lines
    os.close(source)


def test_a_log_that_nobody_reads_ends_nothing() -> None:
    """The lines go nowhere, and their writer isn't held up."""
    (source, sink), (ours, target) = os.pipe(), os.pipe()
    os.close(ours)
    os.write(sink, b"one\ntwo\n")
    os.close(sink)
    copy_lines(source, target)
    os.close(target)
    os.close(source)


def test_lines_of_libraries_and_of_python_are_log_lines() -> None:
    """With time, level, logger and message, as the program's own; a line that isn't UTF-8 or has no end is one too."""
    done = run(r"""
puts(b"Corrupt JPEG data: premature end of data segment\n")
puts(b"half a line")
puts(b", and its end\n\n\xff\xfe\n")
logging.getLogger("worker").info("own", extra={"value": 1})
sys.stderr.write("hand-counter: a folder is missing\n")
warnings.warn("old")
print("result")
puts(b"no end")
""")
    assert done.stdout == "result\n"
    assert done.returncode == 0
    assert sorted(map(str, foreign(done))) == [
        "Corrupt JPEG data: premature end of data segment",
        r"\xff\xfe",
        "half a line, and its end",
        "hand-counter: a folder is missing",
        "no end",
    ]
    for entry in entries(done):
        assert entry.keys() >= {"time", "level", "logger", "message"}
    assert {"worker", "py.warnings"} <= {entry["logger"] for entry in entries(done)}


def test_a_flood_of_lines_stops_nothing() -> None:
    """More than a pipe holds, written while the interpreter's lock is held; long lines are divided, and nothing is lost."""
    done = run(r"""
for number in range(2000):
    puts(b"%d " % number + b"x" * 500 + b"\n")
puts(b"y" * 5500 + b"\n")
""")
    lines = foreign(done)
    assert [str(line).split(" ")[0] for line in lines if "x" in str(line)] == [str(number) for number in range(2000)]
    assert sum(len(str(line)) for line in lines if "y" in str(line)) == 5500
    assert max(len(line) for line in done.stderr.splitlines()) < 4096  # so that lines of two processes don't mix


@pytest.mark.parametrize(
    ("end", "code"),
    [("native.abort()", -6), ("ctypes.string_at(0)", -11), ("os.kill(os.getpid(), 9)", -9), ("os._exit(3)", 3)],
)
def test_a_crash_loses_nothing(end: str, code: int) -> None:
    """Neither what the library said before it, nor where the program was."""
    done = run(f"""
puts(b"terminate called after throwing an instance of 'std::bad_alloc'\\n")
{end}
""")
    assert done.returncode == code
    assert "std::bad_alloc" in str(foreign(done)[0])
    if code in (-6, -11):
        assert any("Fatal Python error" in str(line) for line in foreign(done))
        assert any("most recent call first" in str(line) for line in foreign(done))


def test_an_exception_that_nobody_caught_is_one_line() -> None:
    """In the main thread and in others."""
    done = run("""
thread = threading.Thread(target=lambda: 1 / 0, name="other")
thread.start()
thread.join()
raise KeyError("main")
""")
    assert done.returncode == 1
    first, second = entries(done)
    assert "ZeroDivisionError" in str(first["exception"])
    assert first["thread_name"] == "other"
    assert "KeyError: 'main'" in str(second["exception"])
    assert second["level"] == "critical"


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """The relay holds neither standard output nor other descriptors."""
    done = run("""
puts(b"inside\\n")
read, write = os.pipe()
os.set_inheritable(write, True)
""")
    assert foreign(done) == ["inside"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        program = f"{START}capture('json')\nos.close(1)\nimport time\ntime.sleep(60)\n"
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=output) as process:
            assert process.stdout is not None
            assert process.stdout.read() == b""  # its end is seen although the program and the relay still run
            assert process.poll() is None
            process.kill()
    deadline = time.monotonic() + 60.0
    while _writers_of(log) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _writers_of(log)


def _writers_of(log: Path) -> list[str]:
    """Returns the descriptors of all processes that lead to a file."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == log:
                found.append(str(link))
        except OSError:
            continue
    return found


def test_text_is_left_alone() -> None:
    """For people, lines stay as they are, and there is no other process."""
    program = START.replace('"json"', '"text"') + "capture('text')\nputs(b'native\\n')\nos.system('true')\n"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.stderr == "native\n"


def test_a_closed_standard_error_is_left_alone() -> None:
    """There is nothing to write to."""
    script = f"{START}capture('json')\nprint('done')\n"
    done = subprocess.run(
        ["bash", "-c", '"$PYTHON" -c "$PROGRAM" 2>&-'],
        env={**environment(), "PYTHON": sys.executable, "PROGRAM": script},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0)


def run_first(program: str) -> "subprocess.Popen[str]":
    """Starts a program whose lines are captured as the first process of a namespace."""
    return start_first([sys.executable, "-c", f"{START}capture('json')\n{program}"], environment())


@needs_namespaces
@pytest.mark.parametrize(
    ("end", "code"),
    [("native.abort()", 134), ("ctypes.string_at(0)", 139), ("os.kill(os.getpid(), 9)", 137), ("os._exit(3)", 3)],
)
def test_a_crash_in_a_container_loses_nothing(end: str, code: int) -> None:
    """There the program is the first process, with whose end the kernel ends all others."""
    program = f"puts(b'bad_alloc\\n')\nlogging.getLogger('worker').info('own', extra={{'pid': os.getppid()}})\n{end}"
    with run_first(program) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    said = [json.loads(line) for line in errors.splitlines()]
    lines = [entry["line"] for entry in said if entry["logger"] == "stderr"]
    assert lines[0] == "bad_alloc"
    assert [entry["pid"] for entry in said if entry["logger"] == "worker"] == [1]
    assert any("Fatal Python error" in line for line in lines) == (code in (134, 139))


@needs_namespaces
def test_the_first_process_passes_signals_on_and_collects_orphans() -> None:
    """The program gets each signal once; a child whose parent is gone doesn't stay as a zombie; standard output is its own."""
    program = """
import signal, subprocess, time
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append("TERM"))
signal.signal(signal.SIGHUP, lambda *_: got.append("HUP"))
subprocess.run(["sh", "-c", "sleep 0.05 &"])
zombies = lambda: [p for p in os.listdir("/proc") if p.isdigit() and "Z" in open(f"/proc/{p}/stat").read().split()[2]]
deadline = time.monotonic() + 60
while (zombies() or len(os.listdir("/proc/1/task")) != 1) and time.monotonic() < deadline: time.sleep(0.01)
print("ready", flush=True)
os.kill(1, signal.SIGHUP)
while len(got) < 2 and time.monotonic() < deadline: time.sleep(0.01)
print(got, zombies(), flush=True)
"""
    with run_first(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(pid_of_first(process), 15)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert output in ("['HUP', 'TERM'] []\n", "['TERM', 'HUP'] []\n")
