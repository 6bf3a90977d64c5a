"""Boosts end at their time, by a clock that may be set."""

import asyncio
import contextlib
import time

import pytest
from support.waiting import until

from sidecar.limits import boost_timer
from sidecar.limits.boost_timer import BoostTimer
from sidecar.limits.table import FpsTable


async def test_boosts_end_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a frame or a change in Redis; a boost that comes while none was waited for ends, too."""
    monkeypatch.setattr(boost_timer, "LOOK_EVERY_S", 600.0)
    table = FpsTable(1.0, lambda _field, _value: None, clock=time.monotonic, wall_clock=time.time)
    task = asyncio.create_task(BoostTimer(table).run())
    await asyncio.sleep(0)
    table.store(["a", "b"], [None, b"2"])
    began = time.time()
    table.store_boosts({b"a": f"9 {began + 0.05}".encode(), b"b": f"9 {began + 0.1}".encode()})
    assert [table.fps(name) for name in "ab"] == [9.0, 9.0]
    await until(lambda: table.fps("a") == 1.0, "the first end")
    await until(lambda: table.fps("b") == 2.0, "the second end")
    assert time.time() >= began + 0.1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_clock_that_is_set_ends_boosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon after it is set."""
    monkeypatch.setattr(boost_timer, "LOOK_EVERY_S", 0.01)
    now = 1000.0
    table = FpsTable(1.0, lambda _field, _value: None, clock=time.monotonic, wall_clock=lambda: now)
    task = asyncio.create_task(BoostTimer(table, lambda: now).run())
    table.store(["a"], [None])
    table.store_boosts({b"a": b"9 5000"})
    await asyncio.sleep(0)
    assert table.fps("a") == 9.0
    now = 5000.0
    await until(lambda: table.fps("a") == 1.0, "the end")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
