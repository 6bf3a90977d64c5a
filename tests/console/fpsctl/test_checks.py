"""What doctor judges, and what a bundle hides."""

import json
import tarfile
from pathlib import Path

import pytest

from console.fpsctl import checks
from console.fpsctl.bundle import environment, masked, secrets_of, write_bundle
from console.fpsctl.checks import Check, Status
from process.redis_url import Kind, parse_redis_url

OK, WARNING, FAILED = Status.OK, Status.WARNING, Status.FAILED


@pytest.mark.parametrize(
    ("check", "status", "words"),
    [
        (checks.transport(parse_redis_url("redis://127.0.0.1")), OK, "no TLS"),
        (checks.transport(parse_redis_url("redis://localhost")), OK, "no TLS"),
        (checks.transport(parse_redis_url("unix:///run/redis.sock")), OK, "no TLS"),
        (checks.transport(parse_redis_url("rediss://far")), OK, "encrypted"),
        (checks.transport(parse_redis_url("redis://far")), WARNING, "rediss://"),
        (checks.version_of({"redis_version": "7.0.15"}), OK, "Redis 7.0.15"),
        (checks.version_of({"redis_version": "6.2.1"}), FAILED, "too old"),
        (checks.version_of({"redis_version": "7.2.4", "valkey_version": "9.1.2"}), OK, "Valkey 9.1.2"),
        (checks.version_of({}), FAILED, "too old"),
        (checks.memory_of({"maxmemory_policy": "allkeys-lru"}), FAILED, "noeviction"),
        (checks.memory_of({"maxmemory_policy": "noeviction", "maxmemory": 100, "used_memory": 95}), WARNING, "95%"),
        (checks.memory_of({"maxmemory_policy": "noeviction", "maxmemory": 0, "used_memory": 95}), OK, "nothing"),
        (checks.role_of("master", Kind.SERVER), OK, "master"),
        (checks.role_of("slave", Kind.SERVER), FAILED, "redis+sentinel"),
        (checks.key_type("limits", "k", "none", "hash"), OK, "absent"),
        (checks.key_type("limits", "k", "hash", "hash"), OK, "hash"),
        (checks.key_type("limits", "k", "string", "hash"), FAILED, "instead of a hash"),
        (checks.clock(1000.5, 1000.0, 0.1), OK, "0.45"),
        (checks.clock(1005.0, 1000.0, 0.1), WARNING, "synchronise"),
        (checks.permissions("u", []), OK, "has"),
        (checks.permissions("u", ["HSET k"]), FAILED, "lacks HSET k"),
        (checks.sidecar("a", "TRACKING", "", 0.1, ["SERVING", "SERVING"]), OK, "at once"),
        (checks.sidecar("a", "POLLING", "", 0.1, ["SERVING", "SERVING"]), WARNING, "client|tracking"),
        (checks.sidecar("a", "AWAY", "", 99.0, ["SERVING", "SERVING"]), FAILED, "99 s old"),
        (checks.sidecar("a", "AWAY", "NOPERM", 99.0, ["SERVING", "NOT_SERVING: x"]), FAILED, "NOPERM"),
        (checks.sidecar("a", "TRACKING", "", 0.1, ["SERVING", "NOT_SERVING: x"]), FAILED, "NOT_SERVING: x"),
        (checks.agreement("fps", {"a": "1", "b": "1"}), OK, "the same"),
        (checks.agreement("fps", {"a": "1", "b": "2"}), WARNING, "a: 1, b: 2"),
        (checks.queue(10, 20_000), OK, "10 frames"),
        (checks.queue(19_000, 20_000), WARNING, "are workers running"),
        (checks.cap(20_050, 10, {20_000}, 1), OK, "20050 entries, and at most about 20000"),
        (checks.cap(24_000, 10, {20_000}, 16), OK, "at most about 20000"),
        (checks.cap(24_000, 10, {20_000}, 1), WARNING, "without MAXLEN"),
        (checks.cap(17_000, 16_500, {20_000}, 1), WARNING, "16500 frames wait"),
        (checks.cap(10, 0, {20_000, 500}, 1), WARNING, "(500, 20000)"),
        (checks.cap(10, 0, set(), 1), Status.UNKNOWN, "no publisher"),
        (checks.accounting({"received": 10, "counted": 4, "skipped:late": 3, "dead:lost": 1}, 2), OK, "2 on their way"),
        (checks.accounting({"received": 10, "counted": 4}, 2), WARNING, "flushed"),
        (checks.accounting({"received": 1, "counted": 4}, 2), WARNING, "flushed"),
    ],
)
def test_judgements(check: Check, status: Status, words: str) -> None:
    """Each has a status and words."""
    assert check.status is status
    assert words in check.message


def test_one_sidecar_agrees_with_itself() -> None:
    """There is nothing to say."""
    assert checks.agreement("fps", {"a": "1"}) is None


def test_commands_of_users() -> None:
    """With the real keys; other users need nothing."""
    assert ("HGETALL", "k") in checks.commands_of("fps-operator", {"limits": "k"})
    assert checks.commands_of("somebody", {}) == []


ENVIRON = {
    "FPSCTL_REDIS_PASSWORD": "hunter22",
    "FPSCTL_REDIS_URL": "redis://u:pw1234@h",
    "SIDECAR_REDIS_PASSWORD_FILE": "/run/secret",
    "WORKER_SINK_TOKEN": "tok",
    "HOME": "/root",
}


def test_secrets_are_masked() -> None:
    """Those of variables, of URLs, and those that are known."""
    assert masked("hunter22 redis://u:pw1234@h rtsp://:p@c", ["hunter22", ""]) == "*** redis://u:***@h rtsp://:***@c"
    assert environment(ENVIRON, ("FPSCTL_", "SIDECAR_", "WORKER_")) == {
        "FPSCTL_REDIS_PASSWORD": "***",
        "FPSCTL_REDIS_URL": "redis://u:pw1234@h",
        "SIDECAR_REDIS_PASSWORD_FILE": "/run/secret",
        "WORKER_SINK_TOKEN": "***",
    }
    assert set(secrets_of(ENVIRON, "more")) == {"hunter22", "tok", "more"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://cam:p@ss@tail@10.0.0.1/live", "rtsp://cam:***@10.0.0.1/…"),
        ("rtsp://h/user=admin&password=x", "rtsp://h/…"),
        ("http:https://hooks.local/T0/secret?token=tok", "http:https://hooks.local/…"),
        ("https://token@h:1", "https://***@h:1"),
        ("rtsp://u:a@b/1,rtsp://u:c@d/2 and text", "rtsp://u:***@b/…,rtsp://u:***@d/… and text"),
        ("redis+sentinel://u:p@a:1,b:2/name/0", "redis+sentinel://u:***@a:1,b:2/name/0"),
        ("rediss://:p/w@h:6379/0", "rediss://:***@h:6379/0"),
    ],
)
def test_urls_are_masked(text: str, expected: str) -> None:
    """Cameras and sinks have secrets in paths and queries, too, and passwords with an @ that nobody escaped."""
    assert masked(text, []) == expected


def test_secrets_that_json_escapes_are_masked(tmp_path: Path) -> None:
    """They are masked before."""
    path = tmp_path / "b.tar.gz"
    secret = 'p\u00e4"s\\s'
    write_bundle(path, {"a.json": [{secret: f"is {secret}"}]}, [secret])
    with tarfile.open(path) as archive:
        content = archive.extractfile("fpsctl-bundle/a.json").read()  # type: ignore[union-attr]
    assert json.loads(content) == [{"***": "is ***"}]


def test_a_bundle(tmp_path: Path) -> None:
    """Only its owner can read it, and no secret is in it."""
    path = tmp_path / "b.tar.gz"
    write_bundle(path, {"a.json": environment(ENVIRON, ("FPSCTL_",)), "b.txt": "hunter22 \udcff\n"}, ["hunter22"])
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        content = {member.name: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]
    assert json.loads(content["fpsctl-bundle/a.json"])["FPSCTL_REDIS_URL"] == "redis://u:***@h"
    assert content["fpsctl-bundle/b.txt"] == "*** \\udcff\n"
    with pytest.raises(FileExistsError):
        write_bundle(path, {}, [])
