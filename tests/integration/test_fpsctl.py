"""fpsctl with a real Valkey and a real sidecar, as operators use it."""

import contextlib
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import typer
from support.processes.ports import free_port
from support.processes.programs import REPOSITORY, kill
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.topologies import cluster
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from console.control.changes import Change
from console.control.store import LimitsControl
from console.fpsctl.__main__ import main
from console.fpsctl.app import app
from console.fpsctl.board import read_board
from console.fpsctl.connect import session_from
from handcounter.client import RateLimiter

LIMITS = "stream_fps_configs"
HOSTILE = "\x1b[31m[bold]x\u202e"
FLAGS = {
    parameter.name: parameter.default for parameter in typer.main.get_command(app).params if parameter.name != "version"
}
"""The flags of the program and their defaults."""
SEEN = ("cam-1", "cam-2", "yard", HOSTILE)


class Ended(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object on standard output."""
        return json.loads(self.out)


Fpsctl = Callable[..., Ended]


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tests, which empty it."""
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """A sidecar with a default of 1.5."""
    with sidecar_process(redis_url=server.url, fps=1.5) as running:
        yield running


@pytest.fixture
def fpsctl(server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fpsctl:
    """Runs a command on an empty Redis in which workers have seen some streams, without a sidecar."""
    for name in os.environ:
        if name.startswith(("FPSCTL_", "SIDECAR_", "WORKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FPSCTL_REDIS_URL", server.url)
    monkeypatch.setenv("FPSCTL_SIDECAR", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("FPSCTL_WHO", "ann")
    monkeypatch.setattr(sys, "stdin", None)
    with server.client() as client:
        client.flushall()
        seen(client)

    def run(*words: str) -> Ended:
        capsys.readouterr()
        code = main([*words])
        printed = capsys.readouterr()
        assert "\x1b" not in printed.out + printed.err
        assert "\u202e" not in printed.out + printed.err
        return Ended(code, printed.out, printed.err)

    return run


def seen(client: Any) -> None:
    """Writes the hashes of streams as workers do."""
    now = time.time()
    for name in SEEN:
        fields = {"heard_at": now, "source_fps": 25, "counted_fps": 2, "hand_count": 1, "received": 100, "admitted": 10}
        fields |= {"counted": 9, "skipped": 90, "dead": 1, "last_skip": "too_soon"}
        client.hset(f"{{hand_counter}}:stream:{name}", mapping={"stream_name": name, **fields})
    client.hset("{hand_counter}:camera:yard", mapping={"state": "lost", "error": "refused\x1b", "error_at": now})
    client.hset("{hand_counter}:accounting", mapping={"received": 10, "counted": 9, "skipped:late": 1})


def values(server: Valkey) -> dict[str, str]:
    """The hash of limits."""
    with server.client() as client:
        return client.hgetall(LIMITS)  # type: ignore[return-value]


def test_a_limit_is_set_and_undone(fpsctl: Fpsctl, server: Valkey) -> None:
    """What was and what is now are printed, and noted."""
    assert fpsctl("set", "cam-1", "0.5").out == "cam-1: none → 0.5\n"
    assert fpsctl("set", "cam-1", "2.0").out == "cam-1: 0.5 → 2\n"
    assert fpsctl("get", "cam-1").out == "cam-1: 2 fps, from its own field\n"
    assert fpsctl("set", "cam-1", "2").err == "fpsctl: nothing to change\n"
    assert fpsctl("undo").out == "cam-1: 2 → 0.5\n"
    assert values(server) == {"cam-1": "0.5"}
    found = fpsctl("audit", "--json").json["changes"]
    assert [(each["name"], each["old"], each["new"], each["who"], each["tool"]) for each in found] == [
        ("cam-1", None, "0.5", "ann", "fpsctl"),
        ("cam-1", "0.5", "2", "ann", "fpsctl"),
        ("cam-1", "2", "0.5", "ann", "fpsctl"),
    ]


def test_a_glob_is_asked_about(fpsctl: Fpsctl, server: Valkey) -> None:
    """Without a terminal it needs --yes; what matches is shown first, and undone together."""
    refused = fpsctl("set", "cam-*", "3")
    assert (refused.code, values(server)) == (2, {})
    assert "cam-1" in refused.out
    assert "--yes" in refused.err
    assert "2 changes, none made" in fpsctl("set", "cam-*", "3", "--dry-run").out
    assert fpsctl("set", "cam-*", "3", "--yes").code == 0
    assert values(server) == {"cam-1": "3", "cam-2": "3"}
    assert fpsctl("undo", "--yes").code == 0
    assert values(server) == {}
    nothing = fpsctl("set", "floor-*", "3", "--yes")
    assert (nothing.code, "no stream matches" in nothing.err) == (1, True)


def test_patterns(fpsctl: Fpsctl) -> None:
    """Set, shown as the source, and removed."""
    assert fpsctl("set", "--pattern", "cam-*", "3").out == "pattern cam-*: none → 3\n"
    assert fpsctl("get", "cam-1").out == "cam-1: 3 fps, from the pattern cam-*\n"
    assert "cam-*" in fpsctl("list").out
    assert fpsctl("reset", "--pattern", "cam-*").out == "pattern cam-*: 3 → none\n"
    assert fpsctl("reset", "--pattern", "cam-*").code == 1
    assert fpsctl("set", "--pattern", "cam", "3").code == 1


def test_a_pause_and_its_end(fpsctl: Fpsctl, server: Valkey) -> None:
    """The limit from before comes back, or none if there was none."""
    fpsctl("set", "cam-1", "3")
    assert fpsctl("pause", "cam-1", "cam-2").code == 0
    assert values(server) == {"cam-1": "0", "cam-2": "0"}
    boosted = fpsctl("boost", "cam-1", "9")
    assert (boosted.code, "resume it first" in boosted.err) == (1, True)
    assert fpsctl("resume", "cam-*", "--yes").code == 0
    assert values(server) == {"cam-1": "3"}
    assert fpsctl("reset", "cam-1").out == "cam-1: 3 → none\n"


def test_a_boost(fpsctl: Fpsctl, server: Valkey) -> None:
    """It is shown with its end, set says that it hides a new limit, and its record goes once it has ended."""
    with server.client() as client:
        client.hset(f"{LIMITS}:boosts", "old", "9 5.0")
        assert "boost of cam-1: none → 9 for 1h30m" in fpsctl("boost", "cam-1", "9", "--for", "1h30m").out
        assert client.hkeys(f"{LIMITS}:boosts") == ["cam-1"]
        assert "--end-boost" in fpsctl("set", "cam-1", "2").err
        assert re.search(r"cam-1: 9 fps, from a boost, for another 1h\d+m; then 2", fpsctl("get", "cam-1").out)
        assert "boost of cam-1" in fpsctl("boost", "cam-1", "--end").out
        assert client.exists(f"{LIMITS}:boosts") == 0
    assert fpsctl("boost", "cam-1", "9", "--for", "soon").code == 2
    assert fpsctl("boost", "cam-1").code == 2


def test_changes_by_others_are_noticed(fpsctl: Fpsctl, server: Valkey) -> None:
    """In the audit, and an undo that would overwrite one is refused."""
    fpsctl("set", "cam-1", "3")
    fpsctl("list")
    with server.client() as client:
        client.hset(LIMITS, "cam-1", "7")
    found = fpsctl("audit", "--json").json["changes"]
    assert [(each["tool"], each["old"], each["new"]) for each in found][-1] == ("other", "3", "7")
    refused = fpsctl("undo")
    assert (refused.code, "was changed again" in refused.err) == (1, True)
    assert fpsctl("undo", "cam-1").out == "cam-1: 7 → 3\n"


def test_hostile_and_mistyped_names(fpsctl: Fpsctl) -> None:
    """Nothing in a name reaches the terminal; similar names are offered."""
    assert "\\x1b[31m[bold]x\\u202e" in fpsctl("list").out
    assert "\\x1b" in fpsctl("top").out
    assert fpsctl("set", HOSTILE, "2").code == 1
    assert "is cam-1 meant?" in fpsctl("get", "cam_1").err
    assert "is cam-1 meant?" in fpsctl("set", "cam_1", "2").err
    assert fpsctl("set", "cam-1", "fast").code == 2
    unknown = fpsctl("lst")
    assert (unknown.code, "list" in unknown.err) == (2, True)


def test_documents(fpsctl: Fpsctl, server: Valkey, tmp_path: Path) -> None:
    """What is exported can be imported; a difference is exit code 3."""
    fpsctl("set", "cam-1", "3")
    fpsctl("set", "--pattern", "cam-*", "2")
    for name, flags in (("limits.yaml", ()), ("limits.csv", ("--format", "csv"))):
        file = tmp_path / name
        file.write_text(fpsctl("export", *flags).out)
        assert fpsctl("diff", str(file), "--replace").code == 0
    fpsctl("set", "cam-1", "4")
    fpsctl("set", "cam-2", "5")
    assert (fpsctl("diff", str(file)).code, fpsctl("import", str(file)).code) == (3, 2)
    assert fpsctl("import", str(file), "--yes").code == 0
    assert values(server) == {"cam-1": "3", "cam-2": "5"}
    assert fpsctl("import", str(file), "--yes", "--replace").code == 0
    assert values(server) == {"cam-1": "3"}
    file.write_text("limits: {cam: 1}")
    bad = fpsctl("import", str(file))
    assert (bad.code, "line 1: expected kind,name,fps" in bad.err) == (1, True)
    assert fpsctl("import", str(tmp_path / "absent")).code == 1


def test_lint(fpsctl: Fpsctl, server: Valkey) -> None:
    """Errors are exit code 3."""
    assert fpsctl("lint").code == 0
    with server.client() as client:
        client.hset(LIMITS, mapping={"cam_1": "1", "cam-2": "fast", "floor-*": "1"})
    found = fpsctl("lint", "--json")
    assert {(each["code"], each["name"]) for each in found.json["findings"]} == {
        ("unused", "cam_1"),
        ("bad-value", "cam-2"),
        ("pattern-in-limits", "floor-*"),
    }
    assert found.code == 3
    fpsctl("reset", "cam-2", "floor-*", "--yes")
    assert (fpsctl("lint").code, fpsctl("lint", "--strict").code) == (0, 3)
    assert "limits ask for" in fpsctl("lint", "--capacity", "1").out


def test_results(fpsctl: Fpsctl, server: Valkey) -> None:
    """The newest of one stream."""
    with server.client() as client:
        for number, name in enumerate(["cam-1", "cam-2", "cam-1"]):
            result = {"stream_name": name, "hand_count": number, "timings": {"queue_age": 0.25}}
            client.xadd("{hand_counter}:counts", {"stream_name": name, "ts": "1", "result": json.dumps(result)})
    assert fpsctl("results", "cam-1", "--last", "1").out.endswith("cam-1  2 hands  0.25 s old\n")
    assert [json.loads(line)["hand_count"] for line in fpsctl("results", "--json").out.splitlines()] == [0, 1, 2]


def test_a_sidecar_is_asked(fpsctl: Fpsctl, sidecar: SidecarProcess, tmp_path: Path) -> None:
    """top, explain, list and doctor show what it says."""
    with RateLimiter(sidecar.address, default_fps=0.0) as limiter:
        wait_until(lambda: limiter.decide([("cam-1", time.time())])[0].name == "TOO_SOON")
    address = ("--sidecar", sidecar.address)
    top = fpsctl("top", "--json", *address).json["streams"]
    (cam,) = (each for each in top if each["name"] == "cam-1")
    assert (cam["limit"], cam["source"], cam["state"], cam["admitted"]) == (1.5, "--fps", "live", 1)
    assert "all others: 1.5, from the sidecar's --fps" in fpsctl("list", *address).out
    explained = fpsctl("explain", "cam-1", *address).out
    for words in ("limit     1.5", "1 admitted", "last      too_soon", "after the last admitted one", "hands     1"):
        assert words in explained
    lost = fpsctl("explain", "yard", *address).out
    assert "its publisher can't read the camera: refused\\x1b" in lost
    fpsctl("pause", "cam-1")
    wait_until(lambda: "none, since it is paused" in fpsctl("explain", "cam-1", *address).out)
    bundle = tmp_path / "bundle.tar.gz"
    examined = fpsctl("doctor", "--bundle", str(bundle), *address)
    assert examined.code == 0, examined.out
    assert f"ok    sidecar {sidecar.address}: serves" in examined.out
    with tarfile.open(bundle) as archive:
        names = {Path(name).name for name in archive.getnames()}
    assert {"checks.json", "limits.yaml", "audit.json", "streams.json", "sidecars.json", "redis-info.json"} <= names


def test_doctor_finds_what_is_wrong(fpsctl: Fpsctl, server: Valkey) -> None:
    """A user without permissions, a key of another type, a limit that isn't valid, and no sidecar where one is expected."""
    with server.client() as client:
        client.execute_command("ACL SETUSER fps-sidecar on nopass -@all +ping ~*")
        client.set(f"{LIMITS}:patterns", "text")
        found = {each["name"]: each["status"] for each in fpsctl("doctor", "--json").json["checks"]}
        client.execute_command("ACL DELUSER fps-sidecar")
    assert (found["user fps-sidecar"], found["key patterns"], found["limits"]) == ("failed",) * 3
    assert [status for name, status in found.items() if name.startswith("sidecar ")] == ["failed"]
    assert found["redis"] == "ok"
    nowhere = fpsctl("doctor", "--redis-url", f"redis://127.0.0.1:{free_port()}")
    assert (nowhere.code, "Redis is unreachable" in nowhere.out) == (3, True)


@contextlib.contextmanager
def user(server: Valkey, name: str) -> Iterator[str]:
    """A user of docs/redis-acl.md, as a URL."""
    (command,) = re.findall(rf"^ACL SETUSER {name} .*$", (REPOSITORY / "docs/redis-acl.md").read_text(), re.M)
    with server.client() as client:
        client.execute_command(*command.split())
        client.execute_command("ACL LOG RESET")
        try:
            yield server.url.replace("//", f"//{name}:SECRET@")
        finally:
            client.execute_command("ACL DELUSER", name)


def test_the_documented_operator_may_do_everything(fpsctl: Fpsctl, server: Valkey, tmp_path: Path) -> None:
    """On a real server nothing is denied."""
    with user(server, "fps-operator") as url, server.client() as client:
        for words in (
            "set cam-1 2", "set --pattern cam-* 3", "boost cam-1 9", "pause cam-1", "resume cam-1", "reset cam-1",
            "set yard 2", "undo", "get yard", "list", "top", "explain yard", "audit", "lint", "export", "results",
            f"doctor --bundle {tmp_path / 'b.tar.gz'}",
        ):  # fmt: skip
            assert fpsctl(*words.split(), "--redis-url", url).err.count("permission") == 0, words
        assert [entry["object"] for entry in client.acl_log()] == []


def test_users_of_programs_see_what_they_may(fpsctl: Fpsctl, server: Valkey, sidecar: SidecarProcess) -> None:
    """In a container of the sidecar or the worker fpsctl shows what its user can read, and what is missing."""
    fpsctl("set", "cam-1", "2")
    with RateLimiter(sidecar.address, default_fps=0.0) as limiter:
        wait_until(lambda: limiter.decide([("cam-1", time.time())])[0].name == "TOO_SOON")
    address = ("--sidecar", sidecar.address)
    with user(server, "fps-sidecar") as url:
        for words in ("top", "list", "get cam-1", "explain cam-1", "lint", "doctor"):
            assert fpsctl(*words.split(), "--redis-url", url, *address).code == 0, words
        denied = fpsctl("set", "cam-1", "3", "--redis-url", url, *address)
        assert (denied.code, "the operator in docs/redis-acl.md" in denied.err) == (1, True)
    with user(server, "hand-counter") as url:
        shown = fpsctl("top", "--json", "--redis-url", url, *address).json
        (cam,) = (each for each in shown["streams"] if each["name"] == "cam-1")
        assert (cam["limit"], cam["source"]) == (2.0, "own")
        assert any("permission" in problem for problem in shown["problems"])


def test_without_redis(fpsctl: Fpsctl) -> None:
    """One line, with what to do, and without the password."""
    ended = fpsctl("list", "--redis-url", f"redis://:hunter2@127.0.0.1:{free_port()}")
    assert (ended.code, ended.err.count("\n"), "hunter2" in ended.err) == (1, 1, False)
    assert fpsctl("list", "--redis-url", "http://x").code == 2
    assert fpsctl("list", "--sidecar", "http://x").code == 2
    assert fpsctl("list", "--sidecar-cert", "x").code == 2


def test_a_cluster(fpsctl: Fpsctl) -> None:
    """Limits, audit and the hashes of streams may be on different nodes, and the queue may have partitions."""
    with cluster(nodes=3) as nodes:
        url = ("--redis-url", nodes.url)
        with contextlib.closing(redis.RedisCluster("127.0.0.1", nodes.nodes[0].port)) as client:
            client.set("{hand_counter}:partitions", "4")
            client.hset("{hand_counter:2}:stream:cam1", mapping={"heard_at": time.time(), "hand_count": 4})
        assert fpsctl("set", "cam1", "2", *url).out == "cam1: none → 2\n"
        assert fpsctl("boost", "cam1", "5", *url).code == 0
        (cam,) = fpsctl("top", "--json", *url).json["streams"]
        assert (cam["name"], cam["limit"], cam["hands"]) == ("cam1", 5.0, 4)
        assert len(fpsctl("audit", "--json", *url).json["changes"]) == 2
        assert fpsctl("doctor", "--json", *url).json["checks"]


def test_what_list_and_get_print(fpsctl: Fpsctl, server: Valkey) -> None:
    """Some streams, invalid values, boosts, and what applies to all others."""
    with server.client() as client:
        client.hset(LIMITS, mapping={"yard": "fast", "*": "slow", "cam-1": "0"})
        client.hset(f"{LIMITS}:patterns", mapping={"cam-*": "5", "z*": "x"})
    fpsctl("boost", "cam-2", "9")
    listed = fpsctl("list").out
    for words in (
        "own value 'fast' isn't valid",
        "then 5",
        "paused  own",
        "isn't valid",
        "all others: unknown",
    ):
        assert words in listed
    assert "(the field *, slow, isn't a valid fps)" in listed
    assert [each["stream"] for each in fpsctl("list", "cam-*", "yard", "--json").json["streams"]] == [
        "cam-1",
        "cam-2",
        "yard",
    ]
    assert "isn't a valid fps, so it is ignored" in fpsctl("get", "yard").out
    assert fpsctl("get", "cam-1", "--json").json["fps"] == 0.0
    fpsctl("set", "*", "2")
    assert fpsctl("get", "*").out == "all others: 2, from the field *\n"
    assert fpsctl("get", "none").err.startswith("fpsctl: no stream is called none at present")
    assert re.search(r"ann +fpsctl +\* +slow  →  2\n", fpsctl("audit").out)
    assert "ann changed * from slow to 2" in fpsctl("undo", "*").err
    assert fpsctl("audit", "--last", "0").code == 2


class Terminal(io.StringIO):
    """A standard input on which a person answers."""

    def isatty(self) -> bool:
        """Returns True."""
        return True


def test_questions(fpsctl: Fpsctl, server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a yes changes anything."""
    for answer, code in (("n\n", 1), ("", 1), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert fpsctl("set", "cam-*", "3").code == code
        assert values(server) == ({} if code else {"cam-1": "3", "cam-2": "3"})
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    refused = fpsctl("set", "yrad", "3")
    assert (refused.code, "is yard meant? Set it anyway? [y/N]" in refused.err) == (1, True)


def test_somebody_else_at_the_same_moment(fpsctl: Fpsctl, server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is read again; what was confirmed is never replaced by something else."""
    apply, others = LimitsControl.apply, iter([("cam-1", "7"), ("cam-1", "8")])

    def after_others(control: LimitsControl, changes: Sequence[Change]) -> None:
        for name, value in [each for each in [next(others, None)] if each]:
            with server.client() as client:
                client.hset(LIMITS, name, value)
        apply(control, changes)

    monkeypatch.setattr(LimitsControl, "apply", after_others)
    assert fpsctl("set", "cam-1", "3").out == "cam-1: 8 → 3\n"
    others = iter([("cam-2", "7")])
    refused = fpsctl("set", "cam-*", "4", "--yes")
    assert (refused.code, "somebody else changed cam-2" in refused.err) == (1, True)
    others = iter([("cam-1", str(number)) for number in range(10, 20)])
    assert "others keep changing these limits" in fpsctl("set", "cam-1", "5").err


def test_names_are_completed(
    fpsctl: Fpsctl, server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that no shell would run; nothing without Redis."""
    assert fpsctl("set", "cam-1", "2").code == 0
    with server.client() as client:
        client.hset(
            LIMITS, mapping={"cam-$(reboot)": "1", "cam-x y": "1", "cam-`id`": "1", "cam-ü.1": "1", '"cam': "1"}
        )
    monkeypatch.setenv("_FPSCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "fpsctl get cam-")
    monkeypatch.setenv("COMP_CWORD", "2")

    def completed() -> list[str]:
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.split()

    assert completed() == ["cam-1", "cam-2", "cam-ü.1"]
    monkeypatch.setenv("FPSCTL_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    assert completed() == []


def test_probe_runs_the_program_of_the_worker(fpsctl: Fpsctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the source in a variable, because others can see arguments."""
    ran: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], *, env: dict[str, str], check: bool) -> "subprocess.CompletedProcess[bytes]":
        ran.append((command[1:], {name: value for name, value in env.items() if name.startswith("WORKER_SOURCE")}))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / ".venv/bin/fpsctl")])
    assert fpsctl("probe", "rtsp://me:pw@cam/x", "--json").code == 1
    assert fpsctl("probe", "--source-file", "f", "--snapshot", "s.jpg").code == 1
    assert ran == [
        (["probe", "--json"], {"WORKER_SOURCE": "rtsp://me:pw@cam/x"}),
        (["probe", "--snapshot", "s.jpg"], {"WORKER_SOURCE_FILE": "f"}),
    ]
    assert fpsctl("probe").code == 2
    monkeypatch.setattr(sys, "argv", ["/nowhere/fpsctl"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert "hand-counter isn't installed here" in fpsctl("probe", "x").err


@contextlib.contextmanager
def running(*words: str, **streams: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a command as a process while the block runs."""
    command = [sys.executable, "-m", "console.fpsctl", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, **streams)
    try:
        yield process
    finally:
        kill(process)


def test_watch_prints_changes(fpsctl: Fpsctl, server: Valkey) -> None:
    """By fpsctl, and by others, as they are made."""
    with running("watch", "--count", "2", stdout=subprocess.PIPE) as process, server.client() as client:
        wait_until(lambda: any(each["cmd"].startswith("xread") for each in client.client_list()), "it waits")
        fpsctl("set", "cam-1", "3")
        client.hset(LIMITS, "cam-1", "4")
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    assert re.search(r"cam-1: none → 3  \(ann\)\n.*cam-1: 3 → 4  \(somebody with another tool\)", printed.decode())


def test_top_on_a_terminal(fpsctl: Fpsctl) -> None:
    """It is drawn in 80 columns, a filter is typed, and q ends it, with the terminal as it was."""
    assert fpsctl("set", "cam-1", "3").code == 0
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    before = termios.tcgetattr(end)
    drawn = b""

    def shows(words: bytes) -> bool:
        nonlocal drawn
        while select.select([terminal], [], [], 0.01)[0]:
            drawn += os.read(terminal, 65536)
        return words in drawn

    with running("top", stdin=end, stdout=end, env={**os.environ, "TERM": "xterm-256color"}) as process:
        wait_until(lambda: shows(b"cam-2"), "it is drawn")
        assert rb"\x1b[31" in drawn
        os.write(terminal, b"/yard\n")
        wait_until(lambda: shows(b"(1 shown)"), "it is filtered")
        os.write(terminal, b"q")
        wait_until(lambda: not shows(b"never") and process.poll() is not None, "it ends")
        assert process.returncode == 0
    assert termios.tcgetattr(end) == before
    os.close(terminal)
    os.close(end)


def test_streams_are_found_in_parts_and_forgotten(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search is bounded and goes on where it ended; a stream whose hash has expired isn't shown any more."""
    monkeypatch.setattr("console.fpsctl.workers.SCAN_COUNT", 10)
    with server.client() as client:
        client.flushall()
        for number in range(200):
            client.set(f"{{hand_counter}}:frame:{number}", "picture")
            client.hset(f"{{hand_counter}}:stream:cam{number}", "heard_at", time.time())
        session = session_from({**FLAGS, "redis_url": server.url})
        first = len(read_board(session, 2).rows)
        assert 0 < first < 100
        wait_until(lambda: len(read_board(session, 2).rows) == 200, "all are found")
        client.delete("{hand_counter}:stream:cam7")
        assert len(read_board(session, 0).rows) == 199
        assert "cam7" not in session.workers.names(0)
        session.close()
