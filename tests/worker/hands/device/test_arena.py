"""Pictures on the device."""

import threading

import numpy as np
import pytest
import torch
from support.waiting import wait_until

from worker.hands.device.arena import Arena, InArena, level_starts
from worker.hands.pyramid import Pyramid

CPU = torch.device("cpu")


def picture(width, height, seed=0):
    """Returns noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(64, 48), (37, 91), (1, 1), (300, 2)])
def test_a_picture_lies_there_with_its_pyramid(size):
    """Each level is the one of the CPU's pyramid."""
    image = picture(*size)
    arena = Arena(CPU, 10_000)
    placed, pyramid = arena.place(image), Pyramid(image)
    for level, start in enumerate(placed.starts):
        expected = pyramid._level(level)
        found = arena.pixels[start : start + expected.shape[0] * expected.shape[1]].numpy()
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def in_thread(work):
    """Starts a function in a thread; returns its results as they come."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def test_a_picture_waits_for_room():
    """Until another one is released."""
    _, length = level_starts(64, 48)
    arena = Arena(CPU, length)
    first = arena.place(picture(64, 48))
    thread, results = in_thread(lambda: arena.place(picture(64, 48)))
    assert thread.is_alive()
    assert not results
    arena.release(first)
    thread.join(30)
    assert results == [first]


def test_the_arena_grows_for_a_large_picture():
    """Once those in progress are released; the ones that come meanwhile wait, so that it isn't put off for ever."""
    arena = Arena(CPU, level_starts(64, 48)[1])
    first = arena.place(picture(64, 48))
    large, found = in_thread(lambda: arena.place(picture(640, 480, seed=1)))
    wait_until(lambda: arena._is_growing)
    small, _ = in_thread(lambda: arena.release(arena.place(picture(8, 8))))
    arena.release(first)
    large.join(30)
    assert len(arena.pixels) == level_starts(640, 480)[1]
    start = found[0].starts[0]
    np.testing.assert_array_equal(arena.pixels[start : start + 640 * 480].reshape(480, 640, 3), picture(640, 480, 1))
    arena.release(found[0])
    small.join(30)
    assert not small.is_alive()
    arena.release(arena.place(picture(640, 480)))


def test_without_memory_to_grow_the_others_go_on(monkeypatch):
    """The large picture fails, each time; smaller ones still find their room, in the block that there was."""
    arena = Arena(CPU, level_starts(64, 48)[1])

    def empty(*_args, **_options):
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as without_memory:
        without_memory.setattr(torch, "empty", empty)
        for _ in range(2):
            thread, outcomes = in_thread(lambda: _error_of(lambda: arena.place(picture(640, 480))))
            thread.join(30)
            assert outcomes == [torch.OutOfMemoryError]
    thread, placed = in_thread(lambda: arena.place(picture(64, 48)))
    thread.join(30)
    assert len(placed) == 1
    assert placed[0].length <= len(arena.pixels)


def _error_of(work):
    """Returns the kind of error that a function raises; None if there is none."""
    try:
        work()
    except Exception as error:
        return type(error)
    return None


class Reading:
    """An event behind work that reads a picture; it notes what there was to read when it was waited for."""

    def __init__(self, pixels):
        self.pixels = pixels
        self.seen = []

    def synchronize(self):
        self.seen.append(self.pixels.numpy().copy())


def test_a_kept_picture():
    """Its pixels stay as they are until its holder frees it; a second call does nothing."""
    image = picture(64, 48)
    arena = Arena(CPU, 10_000)
    kept = InArena(arena, arena.place(image))
    arena.release(arena.place(picture(30, 20, seed=1)))
    np.testing.assert_array_equal(kept.pixels.numpy(), image)
    assert not arena._rooms.is_empty
    for _ in range(2):
        kept.free()
    assert arena._rooms.is_empty
    with pytest.raises(RuntimeError, match="freed"):
        kept.pixels  # noqa: B018


@pytest.mark.parametrize("size", [(64, 48), (640, 480)])
def test_what_still_reads_a_picture_whose_room_is_free(size):
    """The room's next picture, and a new block in place of a small one, wait for it."""
    image = picture(64, 48)
    arena = Arena(CPU, level_starts(64, 48)[1])
    kept = InArena(arena, arena.place(image))
    reading = Reading(kept.pixels)
    kept.free(reading)
    assert arena._rooms.is_empty
    for seed in (1, 2):
        arena.release(arena.place(picture(*size, seed)))
    [seen] = reading.seen
    np.testing.assert_array_equal(seen, image)
