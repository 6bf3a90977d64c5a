"""The questions that doctor asks: of Redis, the sidecars and this machine. A question that fails is a check, too."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from console.control.changes import Kind
from console.control.failures import failure_in_words
from console.control.lint import Severity, lint
from console.fpsctl import checks
from console.fpsctl.board import word
from console.fpsctl.checks import Check, Status
from console.fpsctl.rows import number
from console.fpsctl.session import Session
from console.fpsctl.sidecars import Said
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from process.redis_url import Kind as UrlKind

SHARED_SETTINGS = ("fps", "pacing", "scope", "config-key")
"""Settings that differ between sidecars by mistake only."""


class Examination:
    """The checks of one run, and the facts that a support bundle has."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = None
        self.info: dict[str, Any] = {}
        """What INFO says."""
        self.said: list[Said] = []

    def checks(self) -> Iterator[Check]:
        """Makes all checks, those of Redis first."""
        yield checks.transport(self._session.url)
        try:
            self._client = self._session.client
            began, now = time.time(), self._session.limits.now()
            ended = time.time()
        except redis.exceptions.NoPermissionError:
            yield Check("redis", Status.OK, f"{self._session.url.shown} answers")
            yield Check("clock", Status.UNKNOWN, "this user of Redis may not ask")
        except redis.RedisError as error:
            if not isinstance(error, redis.ResponseError) or isinstance(error, redis.AuthenticationError):
                yield _failed("redis", error)
                yield from self._sidecars()
                return
            yield _failed("redis", error)
        else:
            yield Check("redis", Status.OK, f"{self._session.url.shown} answers in {(ended - began) * 1000:.0f} ms")
            yield checks.clock(ended, now, ended - began)
        for name, questions in {
            "version": self._server,
            "role": self._role,
            "keys": self._keys,
            "permissions": self._users,
            "limits": self._limits,
            "queue": self._queue,
        }.items():
            yield from _answered(name, questions)
        yield from self._sidecars()
        yield _models()

    def _server(self) -> Iterator[Check]:
        info = self._client.info()
        # Of a cluster, what one node says, or what each does by its name.
        self.info = info if "redis_version" in info else next(iter(info.values()))
        yield checks.version_of(self.info)
        yield checks.memory_of(self.info)

    def _role(self) -> Iterator[Check]:
        if self._clustered:
            yield Check("role", Status.OK, f"a cluster with {len(self._client.get_primaries())} masters")
            return
        answer = self._client.role()
        yield checks.role_of(str(answer[0]), self._session.url.kind)

    def _keys(self) -> Iterator[Check]:
        keys = self._session.limits.keys
        types = {
            "limits": (keys.config_key, "hash"),
            "patterns": (keys.patterns, "hash"),
            "boosts": (keys.boosts, "hash"),
            "audit": (keys.audit, "stream"),
            "seen": (keys.seen, "hash"),
            "queue": (f"{self._session.workers.tags()[0]}:frames", "stream"),
        }
        for name, (key, expected) in types.items():
            yield checks.key_type(name, key, self._client.type(key), expected)

    def _users(self) -> Iterator[Check]:
        keys = self._session.limits.keys
        names = {
            "limits": keys.config_key,
            "patterns": keys.patterns,
            "boosts": keys.boosts,
            "audit": keys.audit,
            "queue": self._session.workers.tags()[0],
        }
        where = {"target_nodes": self._client.get_primaries()[0]} if self._clustered else {}
        found = False
        for user in self._client.execute_command("ACL USERS", **where):
            if commands := checks.commands_of(user, names):
                found = True
                yield checks.permissions(
                    user, [" ".join(words) for words in commands if self._denied(user, words, where)]
                )

        if not found:
            yield Check("users", Status.UNKNOWN, "none of the users in docs/redis-acl.md exists here")

    def _denied(self, user: str, words: tuple[str, ...], where: dict[str, Any]) -> bool:
        return bool(self._client.execute_command("ACL DRYRUN", user, *words, **where) not in ("OK", b"OK"))

    def _limits(self) -> Iterator[Check]:
        snapshot = self._session.limits.snapshot()
        found = lint(snapshot, self._session.now())
        errors = [each for each in found if each.severity is Severity.ERROR]
        total = sum(len(snapshot.of(kind)) for kind in Kind)
        if errors:
            yield Check("limits", Status.FAILED, f"{len(errors)} of {total} have no effect: fpsctl lint")
        else:
            yield Check("limits", Status.OK, f"{total}, all valid")

    def _queue(self) -> Iterator[Check]:
        workers = self._session.workers
        waiting = length = pending = 0
        tags = workers.tags()
        for tag in tags:
            key = f"{tag}:frames"
            length += self._client.xlen(key)
            with contextlib.suppress(redis.ResponseError):  # no such key: nothing was ever published
                for group in self._client.xinfo_groups(key):
                    pending += group["pending"]
                    waiting += group["pending"] + (group.get("lag") or 0)
        yield checks.queue(waiting, length)
        told = {int(number(each.get("max_queue"))) for each in workers.cameras(workers.names()).values()}
        yield checks.cap(length, waiting, told - {0}, len(tags))
        counters = workers.accounting()
        if counters:
            yield checks.accounting(counters, pending)

    def _sidecars(self) -> Iterator[Check]:
        sidecars = self._session.sidecars
        self.said = sidecars.infos()
        problems = sidecars.problems(self.said)
        for said in self.said:
            name = f"sidecar {said.address}"
            if said.info is None:
                expected = any(said.address in problem for problem in problems)
                hint = said.problem if expected else f"{said.problem}; --sidecar ADDRESS names another"
                yield Check(name, Status.FAILED if expected else Status.UNKNOWN, hint)
                continue
            health = [sidecars.health(said.address, component) for component in ("", "redis")]
            state = word(pb.RedisState, said.info.redis_state, "REDIS_STATE_")
            yield checks.sidecar(said.address, state, said.info.redis_problem, said.info.fps_table_age_seconds, health)
        answering = {said.address: said.info for said in self.said if said.info is not None}
        versions = {address: info.version for address, info in answering.items()}
        shared = [checks.agreement("version", versions)]
        for setting in SHARED_SETTINGS:
            values = {address: info.settings.get(setting, "") for address, info in answering.items()}
            shared += [checks.agreement(setting, values)]
        yield from (check for check in shared if check is not None)

    @property
    def _clustered(self) -> bool:
        return self._session.url.kind is UrlKind.CLUSTER


def _answered(name: str, questions: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yields checks, and one that says so if the user may not ask, or if Redis fails."""
    try:
        yield from questions()
    except redis.exceptions.NoPermissionError:
        yield Check(name, Status.UNKNOWN, "this user of Redis may not ask")
    except redis.RedisError as error:
        yield _failed(name, error)


def _failed(name: str, error: redis.RedisError) -> Check:
    return Check(name, Status.FAILED, "; ".join(filter(None, failure_in_words(error))))


def _models() -> Check:
    """Looks for the models of the worker on this machine."""
    folder = Path(os.environ.get("WORKER_MODELS_DIR") or "~/.cache/hamer-hand-counter/models")
    with contextlib.suppress(RuntimeError):  # a user without a home, as in containers
        folder = folder.expanduser()
    found = sorted(path.name for path in folder.glob("*.tflite")) if folder.is_dir() else []
    if found:
        return Check("models", Status.OK, f"{len(found)} models in {folder}")
    return Check(
        "models", Status.UNKNOWN, f"none in {folder}; a worker on this machine needs hand-counter models fetch"
    )
