"""fpsctl as operators use it: run in this process, on a Redis in which workers have seen some streams."""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from support.processes.ports import free_port
from support.processes.programs import REPOSITORY
from support.redis.valkey import Valkey

from console.fpsctl.__main__ import main

LIMITS = "stream_fps_configs"
HOSTILE = "\x1b[31m[bold]x\u202e"
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


def fpsctl_on(server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fpsctl:
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
        fields = {
            "heard_at": now,
            "counted_at": now,
            "source_fps": 25,
            "counted_fps": 2,
            "hand_count": 1,
            "received": 100,
            "admitted": 10,
        }
        fields |= {"counted": 9, "skipped": 90, "dead": 1, "last_skip": "too_soon"}
        client.hset(f"{{hand_counter}}:stream:{name}", mapping={"stream_name": name, **fields})
    client.hset(
        "{hand_counter}:camera:yard",
        mapping={"state": "lost", "error": "refused\x1b", "error_at": now, "max_queue": 20_000},
    )
    client.hset("{hand_counter}:accounting", mapping={"received": 10, "counted": 9, "skipped:late": 1})


def values(server: Valkey) -> dict[str, str]:
    """The hash of limits."""
    with server.client() as client:
        return client.hgetall(LIMITS)  # type: ignore[return-value]


def rules_of(name: str) -> list[str]:
    """The command of docs/redis-acl.md that creates a user."""
    (command,) = re.findall(rf"^ACL SETUSER {name} .*$", (REPOSITORY / "docs/redis-acl.md").read_text(), re.MULTILINE)
    return command.split()
