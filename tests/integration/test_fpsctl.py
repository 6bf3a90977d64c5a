"""fpsctl changes and shows limits in a real Valkey."""

import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.fpsctl import HOSTILE, LIMITS, Fpsctl, fpsctl_on, values
from support.processes.ports import free_port
from support.processes.programs import REPOSITORY
from support.redis.valkey import Valkey, valkey

from console.control.changes import Change
from console.control.store import LimitsControl
from console.fpsctl.__main__ import main


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tests, which empty it."""
    with valkey() as running:
        yield running


@pytest.fixture
def fpsctl(server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fpsctl:
    """Runs a command on an empty Redis in which workers have seen some streams, without a sidecar."""
    return fpsctl_on(server, monkeypatch, capsys)


def test_a_limit_is_set_and_undone(fpsctl: Fpsctl, server: Valkey) -> None:
    """What was and what is now are printed, and noted."""
    assert fpsctl("set", "cam-1", "0.5").out == "cam-1: none → 0.5\n"
    assert fpsctl("set", "cam-1", "2.0").out == "cam-1: 0.5 → 2\n"
    assert fpsctl("get", "cam-1").out == "cam-1: 2 fps, from its own field\n"
    for flags in ((), ("--dry-run",)):
        assert fpsctl("set", "cam-1", "2", *flags)[1:] == ("", "fpsctl: nothing to change\n")
    assert fpsctl("set", "cam-1", "3", "--dry-run").out.splitlines()[-1] == "1 change, none made"
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
    fpsctl("set", "cam-1", "7")
    with server.client() as client:
        client.hset(LIMITS, "cam-1", "0")
    assert fpsctl("resume", "cam-1").out == "cam-1: 0 → 7\n"
    assert fpsctl("reset", "cam-1").out == "cam-1: 7 → none\n"


def test_a_boost(fpsctl: Fpsctl, server: Valkey) -> None:
    """It is shown with its end, set says that it hides a new limit, and its record goes once it has ended."""
    with server.client() as client:
        client.hset(f"{LIMITS}:boosts", "old", "9 5.0")
        assert "boost of cam-1: none → 9 for 1h30m" in fpsctl("boost", "cam-1", "9", "--for", "1h30m").out
        assert client.hkeys(f"{LIMITS}:boosts") == ["cam-1"]
        assert "boost of cam-1: 9" in fpsctl("undo").out
        assert client.exists(f"{LIMITS}:boosts") == 0
        fpsctl("boost", "cam-1", "9", "--for", "1h30m")
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


def test_a_key_of_another_type(fpsctl: Fpsctl, server: Valkey) -> None:
    """It is named, all else is shown and can be changed, and no document is made of a part of the limits."""
    fpsctl("set", "cam-1", "2")
    fpsctl("set", "--pattern", "cam-*", "5")
    fpsctl("list")
    with server.client() as client:
        client.rename(f"{LIMITS}:patterns", "kept")
        client.set(f"{LIMITS}:patterns", "x")
        for words in ("list", "get cam-1", "set cam-1 3", "pause cam-2", "explain cam-1", "top --once", "undo"):
            ran = fpsctl(*words.split())
            assert (ran.code, f"{LIMITS}:patterns isn't a hash" in ran.err) == (0, True), words
        assert "cam-1: 3 fps" in fpsctl("get", "cam-1").out
        linted = fpsctl("lint", "--json")
        assert (linted.code, linted.json["findings"][0]["code"]) == (3, "wrong-type")
        assert fpsctl("export").code == fpsctl("set", "--pattern", "x*", "5").code == 1
        assert f"FAIL  key patterns: {LIMITS}:patterns is a string" in fpsctl("doctor").out
        client.rename("kept", f"{LIMITS}:patterns")
    noticed = fpsctl("audit", "--json").json["changes"]
    assert not any(each["kind"] == "pattern" and each["tool"] == "other" for each in noticed)


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


def test_lint_asks_what_the_workers_count(fpsctl: Fpsctl, server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their own counters, while they give frames up: then the limits ask for more than they count."""
    fpsctl("set", "*", "5")
    with server.client() as client:

        def work(_seconds: float) -> None:
            client.hincrby("{hand_counter}:accounting", "counted", 1)
            client.hincrby("{hand_counter}:accounting", "skipped:superseded", given_up)

        monkeypatch.setattr("console.fpsctl.workers.time", FakeTime(work))
        given_up = 9
        assert "capacity" not in fpsctl("lint").out, "nothing was ever given up"
        client.hset("{hand_counter}:accounting", "skipped:superseded", 3)
        assert "the limits ask for 20.0 frames per second, the workers count about 0.3" in fpsctl("lint").out
        given_up = 0
        assert "capacity" not in fpsctl("lint").out, "they keep up"


def test_results(fpsctl: Fpsctl, server: Valkey) -> None:
    """The newest of one stream."""
    with server.client() as client:
        for number, name in enumerate(["cam-1", "cam-2", "cam-1"]):
            result = {"stream_name": name, "hand_count": number, "timings": {"queue_age": 0.25}}
            client.xadd("{hand_counter}:counts", {"stream_name": name, "ts": "1", "result": json.dumps(result)})
        other = '{"hand_count": Infinity, "timings": {"queue_age": 1}}'
        client.xadd("{hand_counter}:counts", {"stream_name": "cam-3", "result": other})
        name = "\u202e\x1b\U0001f600"
        client.xadd("{hand_counter}:counts", {"stream_name": name, "result": f'{{"hand_count": 7, "n": "{name}"}}'})
    assert fpsctl("results", "cam-1", "--last", "1").out.endswith("cam-1  2 hands  0.25 s old\n")
    lines = fpsctl("results", "--json").out.splitlines()
    assert [json.loads(line)["hand_count"] for line in lines] == [0, 1, 2, math.inf, 7]
    assert json.loads(lines[-1])["n"] == name
    assert fpsctl("results", "cam-3").out == ""


def test_numbers_in_redis_that_are_none(fpsctl: Fpsctl, server: Valkey) -> None:
    """They are shown as unknown, and don't hold anything up."""
    with server.client() as client:
        client.hset("{hand_counter}:camera:yard", mapping={"error_at": "\u00b2", "source_fps": "\u00b2"})
        client.hset("{hand_counter}:accounting", "received", "\u00b2")
        assert "error     refused" in fpsctl("explain", "yard").out
        assert fpsctl("doctor").code in (0, 3)
        for number in ("99999999", "\u00b2", "-1", "0"):
            client.set("{hand_counter}:partitions", number)
            listed = fpsctl("top")
            assert ("yard" in listed.out, "number of partitions" in listed.err) == (True, True)


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
        "paused  override",
        "isn't valid",
        "all others: unknown",
    ):
        assert words in listed
    assert "(the field *, slow, isn't a valid fps)" in listed
    others = fpsctl("get", "*", "--json").json
    assert [others[name] for name in ("stream", "fps", "source", "own", "invalid")] == [
        "*",
        None,
        "default",
        "slow",
        True,
    ]
    assert fpsctl("explain", "*").code == 2
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


class FakeTime:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self, meanwhile: Callable[[float], None]) -> None:
        self._meanwhile = meanwhile
        self._now = 0.0

    def monotonic(self) -> float:
        """Returns the time, seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Lets something happen meanwhile."""
        self._meanwhile(seconds)
        self._now += seconds


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
