import asyncio

from console.web.feed import pictures
from console.web.feed.pictures import BURST, Pictures, Shown


class Store:
    def __init__(self, size: int = 10) -> None:
        self.reads: list[str] = []
        self.size = size
        self.now = 0.0

    async def read(self, name: str) -> bytes | None:
        self.reads.append(name)
        await asyncio.sleep(0)
        return None if name == "none" else name.encode() * self.size


async def test_a_picture_is_read_once_for_all_viewers_and_again_when_there_is_a_newer_one():
    store = Store()
    kept = Pictures(store.read, lambda: store.now)
    answers = await asyncio.gather(*(kept.picture("a", 1.0) for _ in range(100)))
    assert set(answers) == {b"a" * 10}
    await kept.picture("a", 1.0)
    assert len(store.reads) == 1
    await kept.picture("a", 2.0)
    assert len(store.reads) == 2


async def test_the_reads_per_second_are_bounded_and_the_picture_before_is_shown():
    store = Store()
    kept = Pictures(store.read, lambda: store.now)
    for version in range(2 * int(BURST)):
        assert await kept.picture("a", float(version)) == b"a" * 10
    assert len(store.reads) == BURST
    assert await kept.picture("b", 1.0) is None
    store.now += 1.0
    assert await kept.picture("b", 1.0) is not None


async def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(pictures, "MOST_BYTES", 35)
    store = Store()
    kept = Pictures(store.read, lambda: store.now)
    for name in "abcd":
        await kept.picture(name, 1.0)
    await asyncio.sleep(0)
    assert kept.kept_bytes == 30
    await kept.picture("a", 1.0)
    assert store.reads == ["a", "b", "c", "d", "a"]


async def test_a_camera_without_a_picture():
    store = Store()
    assert await Pictures(store.read, lambda: store.now).picture("none", 1.0) is None


def test_whose_pictures_are_shown():
    shown = Shown(pictures=True, hidden=["floor1-*", "door"])
    assert [shown(name) for name in ("floor1-a", "door", "door2")] == [False, False, True]
    assert not Shown(pictures=False)("door2")
