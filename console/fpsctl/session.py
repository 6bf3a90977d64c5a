"""What a command works with: the limits, the sidecars, the queue and the report, each made when it is first used."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from console.control.changes import Snapshot
from console.control.keys import DEFAULT_CONFIG_KEY, ControlKeys
from console.control.names import nearest, quoted
from console.control.who import user_and_host
from console.fpsctl.report import FpsctlError, Report
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl

if TYPE_CHECKING:
    from console.control.connection import Client
    from console.control.store import LimitsControl
    from console.fpsctl.sidecars import Sidecars
    from console.fpsctl.workers import Workers

TOOL: Final = "fpsctl"
DEFAULT_PREFIX: Final = "hand_counter"
DEFAULT_SIDECAR: Final = "127.0.0.1:50051"


@dataclass
class Session:
    """One run of fpsctl."""

    url: RedisUrl
    access: RedisAccess
    config_key: str = DEFAULT_CONFIG_KEY
    prefix: str = DEFAULT_PREFIX
    sidecar_addresses: tuple[str, ...] = ()
    """HOST:PORT or unix:/path; empty: the default, which needn't exist."""
    sidecar_ca: Path | None = None
    sidecar_cert: Path | None = None
    sidecar_key: Path | None = None
    who: str = ""
    """The person; empty: the user and the host of this process."""
    report: Report = field(default_factory=Report)

    @functools.cached_property
    def client(self) -> Client:
        """The connection to Redis."""
        from console.control.connection import connect

        return connect(self.url, self.access)

    @functools.cached_property
    def limits(self) -> LimitsControl:
        """The limits."""
        from console.control.store import LimitsControl

        keys = ControlKeys(self.config_key)
        return LimitsControl(self.client, keys, who=self.who or user_and_host(), tool=TOOL)

    @functools.cached_property
    def sidecars(self) -> Sidecars:
        """The sidecars."""
        from console.fpsctl.sidecars import Sidecars
        from handcounter.client.channel import tls_credentials

        credentials = tls_credentials(self.sidecar_ca, self.sidecar_cert, self.sidecar_key) if self.sidecar_ca else None
        given = bool(self.sidecar_addresses)
        return Sidecars(self.sidecar_addresses or (DEFAULT_SIDECAR,), credentials, expected=given)

    @functools.cached_property
    def workers(self) -> Workers:
        """What the workers say in Redis."""
        from console.fpsctl.workers import Workers

        return Workers(self.client, self.prefix)

    def now(self) -> float:
        """Returns the time by Redis' clock, or by this machine's if the user may not ask for it; Unix seconds."""
        import redis

        try:
            return self.limits.now()
        except redis.ResponseError:
            return time.time()

    def limits_seen(self, snapshot: Snapshot) -> None:
        """Notes in the audit what others have changed, given all limits, unless this user may not write the audit."""
        import redis

        with contextlib.suppress(redis.ResponseError):
            self.limits.notice_others(snapshot)

    def streams(self) -> set[str]:
        """Returns the streams that the sidecars and the workers know at present."""
        return self.sidecars.names() | self.workers.names()

    def unknown(self, name: str, known: set[str]) -> str:
        """Returns a remark about a name that no stream has; empty if one has it, or if no stream is known at all."""
        if name in known or name == "*" or not known:
            return ""
        similar = nearest(name, sorted(known))
        meant = f"; is {' or '.join(map(quoted, similar))} meant?" if similar else ""
        return f"no stream is called {quoted(name)} at present{meant}"

    def complete(self, limits: Snapshot) -> Snapshot:
        """Returns limits that are all there is; raises FpsctlError if a part of them couldn't be read."""
        if limits.unread:
            raise FpsctlError("; ".join(self.limits.problems))
        return limits

    def close(self) -> None:
        """Closes what was opened, and notes what couldn't be read."""
        if "limits" in vars(self):
            for problem in self.limits.problems:
                self.report.note(problem)
        for name in ("sidecars", "client"):
            if name in vars(self):
                vars(self)[name].close()
