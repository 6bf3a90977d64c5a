import asyncio

import pytest

from console.web.feed.viewers import QUEUE, TooManyViewersError, Viewers


async def _take(messages, number: int) -> list[bytes]:
    return [await asyncio.wait_for(anext(messages), 10) for _ in range(number)]


async def test_a_viewer_gets_a_snapshot_and_then_every_change():
    viewers = Viewers(2, lambda: b"all")
    messages = viewers.messages()
    assert await _take(messages, 1) == [b"all"]
    viewers.tell(b"1")
    viewers.tell(b"2")
    assert await _take(messages, 2) == [b"1", b"2"]
    await messages.aclose()
    assert viewers.number == 0


async def test_a_slow_viewer_gets_one_snapshot_in_place_of_what_it_missed():
    viewers = Viewers(2, lambda: b"all")
    slow = viewers.messages()
    await _take(slow, 1)
    for i in range(QUEUE + 10):
        viewers.tell(b"%d" % i)
    assert await _take(slow, 1) == [b"all"]
    viewers.tell(b"next")
    assert await _take(slow, 1) == [b"next"]
    assert viewers.resnapshots == 1
    await slow.aclose()


async def test_the_number_of_viewers_is_bounded():
    viewers = Viewers(1, lambda: b"all")
    first = viewers.messages()
    await _take(first, 1)
    with pytest.raises(TooManyViewersError):
        await anext(viewers.messages())
    await first.aclose()
    assert await _take(viewers.messages(), 1) == [b"all"]


async def test_closing_ends_all_messages():
    viewers = Viewers(2, lambda: b"all")
    messages = viewers.messages()
    await _take(messages, 1)
    viewers.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(messages), 10)
