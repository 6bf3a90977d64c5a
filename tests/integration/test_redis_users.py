"""The users of Redis: those of the manifests, and a sidecar whose user can't read the limits."""

import contextlib
import itertools
import json
import re
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.console.processes import console_process
from support.deploy import compose_services, documents_in, read_document
from support.frame_queue import FrameQueue
from support.processes.programs import REPOSITORY
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.processes.workers import KEYS, accounting, picture, worker
from support.redis.valkey import valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from worker.publish.source import Captured
from worker.queue.redis_client import connect

HASH = "stream_fps_configs"


def documented() -> dict[str, list[str]]:
    """Returns the commands in docs/redis-acl.md by the user that they create."""
    commands = re.findall(r"^ACL SETUSER .*$", (REPOSITORY / "docs/redis-acl.md").read_text(), re.MULTILINE)
    return {words[2]: words for words in map(str.split, commands)}


PROGRAMS = {"sidecar": "SIDECAR", "worker": "WORKER", "publisher": "WORKER", "fpsctl": "FPSCTL", "console": "CONSOLE"}
"""The services of compose.yaml that log in to Redis, and the prefixes of their variables."""


def compose_words() -> tuple[list[str], dict[str, str]]:
    """Returns the words of the server's command, and the URL of each program, in compose.yaml."""
    services = compose_services()
    urls = {name: services[name]["environment"][f"{prefix}_REDIS_URL"] for name, prefix in PROGRAMS.items()}
    return services["redis"]["command"], urls


def overlay_words() -> tuple[list[str], dict[str, str]]:
    """Returns the same for the overlay dev."""
    folder = REPOSITORY / "k8s/overlays/dev"
    documents = documents_in((folder / "valkey.yaml").read_text())
    (server,) = (document for document in documents if document["kind"] == "Deployment")
    secrets = read_document(folder / "kustomization.yaml")["secretGenerator"]
    urls = {secret["name"].rpartition("-")[2]: secret["literals"][0].removeprefix("url=") for secret in secrets}
    return server["spec"]["template"]["spec"]["containers"][0]["args"], urls


MANIFESTS = pytest.mark.parametrize("words", [compose_words, overlay_words], ids=["compose", "dev"])


def users_of(words: list[str]) -> dict[str, list[str]]:
    """Returns the rules of each --user among the arguments of a server."""
    _, *parts = " ".join(words).split("--user ")
    return {user: rules for user, *rules in (part.split(" --")[0].split() for part in parts)}


@MANIFESTS
def test_the_users_of_the_manifests_are_the_documented_ones(words: Callable[[], Any]) -> None:
    """Each program has a user of its own, with the permissions in docs/redis-acl.md and without a password."""
    command, urls = words()
    users = users_of(command)
    assert {url.removeprefix("redis://").partition("@")[0] for url in urls.values()} == set(users)
    assert len(set(urls.values())) == len(urls) >= 3
    for user, rules in users.items():
        # In compose.yaml the queue may have partitions.
        plain = [rule.replace("{hand_counter*}", "{hand_counter}") for rule in rules]
        assert plain == ["on", "nopass", *documented()[user][5:]], user


@MANIFESTS
def test_frames_are_counted_as_the_users_of_the_manifests(words: Callable[[], Any], tmp_path: Path) -> None:
    """On a real server with these users the limits are followed, frames are counted, and nothing is denied."""
    command, urls = words()
    arguments = [word for user, rules in users_of(command).items() for word in ("--user", user, *rules)]
    with valkey(*arguments) as server, server.client() as operator:
        here = {name: re.sub(r"@[^/]+", f"@127.0.0.1:{server.port}", url) for name, url in urls.items()}
        operator.hset(HASH, "cam", "2")
        with sidecar_process(redis_url=here["sidecar"]) as sidecar:
            with connect(here["publisher"]) as client:
                frames = FrameQueue(client, KEYS, "cam")
                for number in range(20):
                    assert frames.publish(Captured(1000.0 + number / 10, picture()))
            queue = types.SimpleNamespace(url=here["worker"], folder=tmp_path)
            with worker(queue, "--drain", sidecar=sidecar.address) as process:
                assert process.wait() == 0
        with redis.Redis(port=server.port) as client:
            assert accounting(client)["counted"] == 4
        assert operator.acl_log() == []


def test_the_documented_operator_sets_and_sees_limits() -> None:
    """HSET, HGET, HGETALL and HDEL of the limits, and no change of anything else; fpsctl is tried in test_fpsctl_servers.py."""
    with valkey() as server, server.client() as admin:
        admin.execute_command(*documented()["fps-operator"])
        with server.client(username="fps-operator", password="SECRET") as operator:
            operator.hset(HASH, "cam", "2")
            assert operator.hget(HASH, "cam") == "2"
            assert operator.hgetall(HASH) == {"cam": "2"}
            operator.hdel(HASH, "cam")
            queue = "{hand_counter}:stream:cam"
            for denied in (lambda: operator.hset(queue, "cam", "2"), lambda: operator.delete(HASH)):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    denied()


@pytest.mark.parametrize(
    ("login", "reason", "hint"),
    [
        ("", "Redis demands a password", "CONSOLE_REDIS_PASSWORD"),
        (":wrong@", "Redis rejected the user or the password", "check both"),
        ("nobody:secret@", "Redis rejected the user or the password", "check both"),
        ("idle:secret@", "Redis denies this user a permission", "docs/redis-acl.md"),
    ],
)
def test_the_console_says_why_it_cannot_read_redis(login: str, reason: str, hint: str) -> None:
    """In its log with what to do, and on its page."""
    idle = ("--user", "idle", "on", ">secret", "+ping", "+hello")
    with (
        valkey("--requirepass", "secret", *idle) as server,
        console_process("--log-format", "json", redis_url=server.url.replace("//", f"//{login}")) as console,
    ):
        wait_until(lambda: "Redis can't be read" in console.log, "the warning")
        lines = map(json.loads, console.log.splitlines())
        said = next(line for line in lines if line["message"] == "Redis can't be read")
        assert said["reason"].startswith(reason)
        assert hint in said["hint"]


class Asked:
    """A sidecar, as operators see it."""

    def __init__(self, process: SidecarProcess, channel: grpc.Channel) -> None:
        self.process = process
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    def info(self) -> pb.GetServerInfoResponse:
        """Returns the answer of GetServerInfo."""
        return self.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120)

    def problems(self) -> set[str]:
        """Returns the problems whose metric is 1."""
        with urllib.request.urlopen(f"http://{self.process.http}/metrics", timeout=120) as page:
            return set(
                re.findall(r'^sidecar_redis_problem\{problem="(\w+)"\} 1\.0$', page.read().decode(), re.MULTILINE)
            )

    def redis_health(self) -> tuple[int, str]:
        """Returns the status of the component redis and the reason that comes with it."""
        answer, call = self.health.Check.with_call(health_pb2.HealthCheckRequest(service="redis"), timeout=120)
        return answer.status, dict(call.trailing_metadata()).get("reason", "")


@contextlib.contextmanager
def asked(url: str, *arguments: str) -> Iterator[Asked]:
    """A sidecar that follows the limits at a URL."""
    with sidecar_process(*arguments, redis_url=url) as process, grpc.insecure_channel(process.address) as channel:
        yield Asked(process, channel)


@pytest.mark.parametrize(
    ("problem", "login", "words"),
    [
        ("NOPERM", "hand-counter:SECRET@", ["Redis denies this user a permission", "docs/redis-acl.md"]),
        ("NOAUTH", "", ["Redis demands a password", "--redis-password-file"]),
        ("WRONGPASS", "hand-counter:wrong@", ["Redis rejected the user or the password", "check the user"]),
        ("WRONGTYPE", ":admin@", ["isn't a hash", "delete"]),
        ("UNREACHABLE", None, ["Redis is unreachable"]),
    ],
)
def test_a_problem_with_the_limits_is_named(problem: str, login: str | None, words: list[str]) -> None:
    """In the log, the metric, GetServerInfo and the health of the component redis, with what to do."""
    with valkey("--requirepass", "admin") as server, server.client(password="admin") as admin:
        admin.execute_command(*documented()["hand-counter"])
        if problem == "WRONGTYPE":
            admin.set(HASH, "text")
        address = "127.0.0.1:1" if login is None else f"{login}127.0.0.1:{server.port}"
        with asked(f"redis://{address}/0") as sidecar:
            sentence = sidecar.info().redis_problem
            assert [word for word in words if word not in sentence] == []
            assert sidecar.problems() == {problem}
            assert sidecar.redis_health() == (health_pb2.HealthCheckResponse.NOT_SERVING, sentence)
            log = sidecar.process.logs()
            assert [word for word in words if word not in log] == []
            assert log.count("in force") == 1
            if problem == "WRONGTYPE":
                admin.delete(HASH)
                wait_until(lambda: not sidecar.info().redis_problem, "the limits can be read")
                assert sidecar.problems() == set()
                assert sidecar.redis_health() == (health_pb2.HealthCheckResponse.SERVING, "")


def test_a_server_that_cannot_save_is_followed() -> None:
    """It rejects writes and PING (MISCONF), but the limits can be read: one state, no other connection, health SERVING."""
    with valkey("--save", "3600 1") as server, server.client() as admin:
        admin.hset(HASH, "cam", "2")
        with asked(server.url) as sidecar:
            log = sidecar.process.logs()
            Path(admin.config_get("dir")["dir"], "dump.rdb").mkdir()  # where Redis would save
            admin.execute_command("BGSAVE")
            wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "saving fails")
            with pytest.raises(redis.ResponseError, match="MISCONF"):
                admin.ping()
            beats = admin.info("commandstats")["cmdstat_role"]["calls"]
            wait_until(
                lambda: admin.info("commandstats")["cmdstat_role"]["calls"] > beats + 3, "heartbeats are answered"
            )
            assert sidecar.info().redis_state == pb.REDIS_STATE_TRACKING
            assert sidecar.info().fps_table_age_seconds < 60.0
            assert sidecar.redis_health() == (health_pb2.HealthCheckResponse.SERVING, "")
            assert sidecar.process.logs() == log
            Path(admin.config_get("dir")["dir"], "dump.rdb").rmdir()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("OOM", ["no memory left", "raise maxmemory"]),
        ("MISCONF", ["can't save its data", "check the disk"]),
        ("NOPERM", ["denies this user a permission", "docs/redis-acl.md"]),
    ],
)
def test_rejected_claims_are_named(code: str, words: list[str]) -> None:
    """In fleet scope a Redis that can be read may reject all claims: one warning, the metric, GetServerInfo and health."""
    with valkey("--save", "3600 1") as server, server.client() as admin:
        admin.execute_command(*documented()["fps-sidecar"])
        blocker = Path(admin.config_get("dir")["dir"], "dump.rdb")  # where Redis would save
        user = "fps-sidecar:SECRET@" if code == "NOPERM" else ""
        flags = ("--scope", "fleet", "--claim-wait", "5")
        with asked(f"redis://{user}127.0.0.1:{server.port}/0", *flags) as sidecar:
            ts = itertools.count(1000.0, 1000.0)

            def ask() -> pb.ShouldProcessResponse:
                return sidecar.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=next(ts)), timeout=120)

            if code == "OOM":
                admin.config_set("maxmemory", "1")
            elif code == "MISCONF":
                admin.set("key", "value")
                blocker.mkdir()
                admin.execute_command("BGSAVE")
                wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "saving fails")
            wait_until(lambda: ask().stale and sidecar.info().redis_problem, "a claim is rejected")
            for _ in range(5):
                assert ask().stale
            sentence = sidecar.info().redis_problem
            assert [word for word in ["claims are rejected", *words] if word not in sentence] == []
            assert sidecar.redis_health() == (health_pb2.HealthCheckResponse.NOT_SERVING, sentence)
            with urllib.request.urlopen(f"http://{sidecar.process.http}/metrics", timeout=120) as page:
                rejected = re.findall(
                    r'^sidecar_rejected_claims_total\{code="(\w+)"\} ([1-9]\S*)$', page.read().decode(), re.M
                )
            assert [name for name, _ in rejected] == [code]
            log = sidecar.process.logs()
            assert log.count("Redis rejects claims") == 1
            assert [word for word in words if word not in log] == []
            if code == "OOM":
                admin.config_set("maxmemory", "0")
            elif code == "MISCONF":
                blocker.rmdir()
                admin.execute_command("BGSAVE")
            else:
                admin.execute_command("ACL", "SETUSER", "fps-sidecar", "allkeys", "allchannels", "+@all")
            wait_until(lambda: not ask().stale and not sidecar.info().redis_problem, "claims are accepted")
            assert sidecar.redis_health() == (health_pb2.HealthCheckResponse.SERVING, "")
