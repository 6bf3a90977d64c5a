"""Who has logged in with a token: sessions, which a cookie names. In memory: a restart of the console ends them."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from console.web.access.identity import NOBODY, Identity

COOKIE: Final = "console_session"
LASTS_S: Final = 12 * 3600.0
MOST: Final = 1000


class Sessions:
    """Sessions that end by themselves; the oldest ends when there are too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Takes a monotonic clock in seconds."""
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[float, Identity, bytes]] = OrderedDict()
        self._key = secrets.token_bytes(32)

    def open(self, identity: Identity, key: bytes = b"") -> str:
        """Opens a session and returns its id, which nobody can guess; ``key`` is that of the token that opens it."""
        session = secrets.token_urlsafe(32)
        self._sessions[session] = (self._clock() + LASTS_S, identity, key)
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return session

    def identity(self, session: str) -> Identity:
        """Returns whose session it is; NOBODY if there is no such session."""
        ends, identity, _ = self._sessions.get(session, (0.0, NOBODY, b""))
        if ends <= self._clock():
            self._sessions.pop(session, None)
            return NOBODY
        return identity

    def key(self, session: str) -> bytes:
        """Returns the key of the token that opened a session; empty if there is no such session."""
        return self._sessions.get(session, (0.0, NOBODY, b""))[2]

    def close(self, session: str) -> None:
        """Ends a session."""
        self._sessions.pop(session, None)

    def request_token(self, session: str, name: str) -> str:
        """Returns what the page has to send with each change, so that no other page can ask for one."""
        return hmac.new(self._key, f"{session}\0{name}".encode(errors="replace"), hashlib.sha256).hexdigest()

    def is_request_token(self, given: str, session: str, name: str) -> bool:
        """Returns whether a request has the token of this session."""
        return hmac.compare_digest(given.encode(errors="replace"), self.request_token(session, name).encode())
