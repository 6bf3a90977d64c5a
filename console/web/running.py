"""``hand-counter console``: builds the feed, the rules of access and the application, and serves until a signal."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import redis
import uvicorn
from prometheus_client import CollectorRegistry, disable_created_metrics

from console.control.connection import connect
from console.control.failures import failure_in_words
from console.control.keys import ControlKeys
from console.web.access.guard import Access
from console.web.access.identity import Proxy, Tokens
from console.web.access.token_file import TokenFile
from console.web.app import application
from console.web.changes import Changes
from console.web.feed.board import Board
from console.web.feed.feed import Feed
from console.web.feed.history import History
from console.web.feed.limits_view import LimitsView
from console.web.feed.load import Load
from console.web.feed.pictures import Shown
from console.web.feed.queue_keys import QueueKeys
from console.web.feed.redis_client import RedisServer
from console.web.feed.redis_source import RedisSource
from console.web.feed.sidecar_source import SidecarSource
from console.web.options import ConsoleOptions
from console.web.settings import is_loopback
from handcounter.client.channel import tls_credentials
from process.address import split_host_port

logger = logging.getLogger(__name__)

FAILED: Final = 1
GRACE_S: Final = 3
SOON_S: Final = 0.2
NOTICE_S: Final = 3.0
UNNOTICED_S: Final = 60.0
UNREAD_MS: Final = 30_000
"""How long a page may read nothing of what was sent to it: then the kernel closes its connection, to make room for others."""
OTHER_CONNECTIONS: Final = 200
"""Open at a time besides the pages' events: their pictures, probes, Prometheus."""


def run_console(options: ConsoleOptions) -> int:
    """Serves the page until SIGTERM, SIGINT or SIGHUP; returns the exit code."""
    host, port = split_host_port(options.listen)
    try:
        listener = _listen(host, port)
    except OSError as error:
        sys.stderr.write(f"hand-counter console: cannot listen on {options.listen}: {error.strerror or error}\n")
        return FAILED
    with listener:
        asyncio.run(_serve(options, host, listener))
    return 0


async def _serve(options: ConsoleOptions, host: str, listener: socket.socket) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    load = Load(registry)
    server = RedisServer(options.redis, options.redis_access)
    keys = QueueKeys(options.prefix)
    credentials = None
    if options.sidecar_ca:
        credentials = tls_credentials(options.sidecar_ca, options.sidecar_cert, options.sidecar_key)
    shown = Shown(pictures=options.pictures, hidden=options.hide_pictures)
    limits = LimitsView()
    feed = Feed(
        server,
        RedisSource(server.client(), keys, options.config_key, load),
        SidecarSource(options.sidecar, load, credentials),
        Board(options.max_streams, lambda name: {"picture": shown(name), **limits.of_row(name)}),
        History(options.history_streams),
        limits,
        load,
        config_key=options.config_key,
        max_viewers=options.max_viewers,
    )
    changes = Changes(lambda: connect(options.redis, options.redis_access), ControlKeys(options.config_key))
    app = application(feed, changes, access_from(options, host), registry, shown)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        # Below, it says what the console says itself, with escape codes for a terminal as a field.
        log_level=max(logging.WARNING, logging.getLogger().level),
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=options.max_viewers + OTHER_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    feed.start()
    noticing = asyncio.create_task(_notice_others(feed, changes)) if options.allow_changes else None
    try:
        await _Server(config, lambda: _log_served(listener, options), feed.viewers.close).serve(sockets=[listener])
    finally:
        if noticing:
            noticing.cancel()
        await feed.close()
        changes.close()
    logger.info("the console has stopped")


def _log_served(listener: socket.socket, options: ConsoleOptions) -> None:
    address = listener.getsockname()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    about = {"url": f"http://{host}:{address[1]}/", "changes": options.allow_changes}
    logger.info("the console is served", extra=about)


async def _notice_others(feed: Feed, changes: Changes) -> None:
    """Notes in the audit what others change without a tool of this project, some seconds later."""
    noticed = -1
    while True:
        # The first look notes nothing, since nobody knows what it was before; so it comes as soon as Redis can be read.
        await asyncio.sleep(SOON_S if noticed < 0 else NOTICE_S)
        if feed.limits.version == noticed or feed.redis_problem:
            continue
        version = feed.limits.version
        try:
            await changes.notice_others()
        except redis.RedisError as error:
            reason, hint = failure_in_words(error, of_console=True)
            about = {"reason": reason, "hint": hint}
            logger.warning("changes by others aren't noted in the audit", extra=about)
            await asyncio.sleep(UNNOTICED_S)
        else:
            noticed = version


class _Server(uvicorn.Server):
    """Ends the pages' events first when it is to stop; else it would wait for them."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once signals are handled."""
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by a signal."""
        self._loop.call_soon_threadsafe(self._on_stop)
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Handles signals while it serves. Uvicorn's own version raises them again, so the process would end by them."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
        stopping = (signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,)))
        before = {each: signal.signal(each, self.handle_exit) for each in stopping}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def access_from(options: ConsoleOptions, host: str) -> Access:
    """Returns the rules of access."""
    tokens = proxy = None
    if options.trusted_proxy:
        proxy = Proxy(
            options.proxy_user_header,
            options.proxy_groups_header,
            frozenset(options.operator_group),
            tuple(ipaddress.ip_network(each) for each in options.trusted_proxy),
        )
    elif options.operator_token or options.operator_token_file or options.viewer_token or options.viewer_token_file:
        tokens = Tokens(
            _token(options.operator_token, options.operator_token_file),
            _token(options.viewer_token, options.viewer_token_file),
        )
    hosts = {each.lower() for each in options.allowed_host}
    if hosts or is_loopback(host):
        hosts |= {host.lower(), "localhost", "127.0.0.1", "::1"}
    return Access(
        allow_changes=options.allow_changes, hosts=frozenset(hosts), tokens=tokens, proxy=proxy, clock=time.monotonic
    )


def _token(text: str, path: Path | None) -> Callable[[], tuple[str, ...]]:
    given = (text,) if text else ()
    return TokenFile(path, time.monotonic) if path is not None else lambda: given


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # the connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        listener.bind((host, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
