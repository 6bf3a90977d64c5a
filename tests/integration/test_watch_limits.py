"""LimitsWatch with a real sidecar and a real Valkey: changes, a Redis that is lost, a sidecar that is lost, TLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes.ports import free_port
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.tls import Authority
from support.waiting import wait_until

from handcounter.client import FpsSource, LimitsWatch, Pacing, StreamLimit, tls_credentials

KEY = "stream_fps_configs"
TIMEOUT_S = 60.0


@pytest.fixture
def server() -> Iterator[Valkey]:
    """Returns a Valkey."""
    with valkey() as running:
        yield running


def hset(server: Valkey, field: str, value: str | None) -> None:
    """Sets a limit, or removes it."""
    with server.client() as client:
        client.hdel(KEY, field) if value is None else client.hset(KEY, field, value)


@contextmanager
def watching(address: str, *names: str) -> Iterator[LimitsWatch]:
    """Yields a client that was told the limits of these streams."""
    with LimitsWatch(address) as watch:
        for name in names:
            watch.watch(name, 25.0)
        assert watch.wait_told(TIMEOUT_S)
        yield watch


def test_changes_in_redis_are_told(server: Valkey) -> None:
    """The stream's own field, the wildcard, a value that isn't valid, no field; nothing needs a frame."""
    hset(server, "cam1", "4")
    flags = ("--pacing", "min-gap")
    with (
        sidecar_process(*flags, redis_url=server.url, fps=2, constants=LIMITS_ARE_WAITED_FOR) as sidecar,
        watching(sidecar.address, "cam1", "cam2") as watch,
    ):
        assert (watch.pacing, watch.shadow, watch.stale) == (Pacing.MIN_GAP, False, False)
        assert watch.limit("cam1") == StreamLimit(4.0, FpsSource.OVERRIDE, "")
        assert watch.limit("cam2") == StreamLimit(2.0, FpsSource.DEFAULT, "")
        hset(server, "cam1", "0.5")
        wait_until(lambda: watch.limit("cam1") == StreamLimit(0.5, FpsSource.OVERRIDE, ""), "the change")
        hset(server, "*", "9")
        wait_until(lambda: watch.limit("cam2") == StreamLimit(9.0, FpsSource.WILDCARD, ""), "the wildcard")
        hset(server, "cam1", "half")
        wait_until(lambda: watch.limit("cam1") == StreamLimit(0.5, FpsSource.OVERRIDE, "half"), "the typing error")
        hset(server, "cam1", None)
        wait_until(lambda: watch.limit("cam1") == StreamLimit(9.0, FpsSource.WILDCARD, ""), "no field")


def test_without_redis_limits_are_stale(server: Valkey) -> None:
    """The last ones stay, and a change is told when Redis is back."""
    hset(server, "cam1", "4")
    with (
        sidecar_process(redis_url=server.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar,
        watching(sidecar.address, "cam1") as watch,
    ):
        server.kill()
        wait_until(lambda: watch.stale, "the loss is told")
        assert (watch.limit("cam1"), watch.sidecar_unreachable) == (StreamLimit(4.0, FpsSource.OVERRIDE, ""), False)
        server.restart()
        hset(server, "cam1", "5")
        wait_until(lambda: watch.limit("cam1") == StreamLimit(5.0, FpsSource.OVERRIDE, ""), "the change")
        wait_until(lambda: not watch.stale, "the return is told")


def test_a_sidecar_that_is_killed(server: Valkey) -> None:
    """Its limits stay, and those of the next one are told."""
    hset(server, "cam1", "4")
    port = free_port()
    with (
        sidecar_process(redis_url=server.url, port=port, constants=LIMITS_ARE_WAITED_FOR) as sidecar,
        watching(sidecar.address, "cam1") as watch,
    ):
        sidecar.kill()
        wait_until(lambda: watch.sidecar_unreachable, "the loss")
        assert watch.limit("cam1") == StreamLimit(4.0, FpsSource.OVERRIDE, "")
        hset(server, "cam1", "5")
        with sidecar_process(redis_url=server.url, port=port, constants=LIMITS_ARE_WAITED_FOR):
            wait_until(lambda: watch.limit("cam1") == StreamLimit(5.0, FpsSource.OVERRIDE, ""), "the new limit")
            assert not watch.stale


def test_a_watcher_does_not_hold_up_the_end(server: Valkey) -> None:
    """The sidecar ends as soon as nobody asks."""
    with (
        sidecar_process("--grace", "600", redis_url=server.url) as sidecar,
        watching(sidecar.address, "cam1") as watch,
    ):
        sidecar.terminate()
        assert sidecar.wait() == 0
        wait_until(lambda: watch.sidecar_unreachable, "the end")


def test_over_tls(tmp_path: Path) -> None:
    """The certificates are those of RateLimiter."""
    authority = Authority(tmp_path)
    pair, port = authority.sign("sidecar"), free_port()
    flags = ("--listen", f"[::]:{port}", "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    with sidecar_process(*flags, fps=3):
        credentials = tls_credentials(authority.certificate)
        with LimitsWatch(f"localhost:{port}", credentials=credentials) as watch:
            watch.watch("cam1")
            assert watch.wait_told(TIMEOUT_S)
            assert watch.limit("cam1") == StreamLimit(3.0, FpsSource.DEFAULT, "", unread=True)
            assert watch.stale  # there is no Redis
