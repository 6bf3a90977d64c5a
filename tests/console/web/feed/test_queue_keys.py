import fnmatch

import pytest

from console.web.feed.queue_keys import QueueKeys
from worker.queue.keys import Keys
from worker.queue.partitions import Partitions

NAMES = ["cam1", "камера", "a:b", "{x}"]


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("name", NAMES)
def test_the_keys_are_those_of_the_worker(number: int, name: str):
    ours, theirs = QueueKeys("hand_counter", number), Partitions("hand_counter", number)
    keys = theirs.keys_of(name)
    assert ours.stream(name).decode() == keys.stream(name)
    assert ours.preview(name).decode() == keys.preview(name)
    for mine, each in zip(ours.partitions, theirs, strict=True):
        found = [getattr(mine, key).decode() for key in ("frames", "counts", "dead", "accounting", "unread")]
        assert found == [each.frames, each.counts, each.dead, each.accounting, each.unread]
    assert ours.number_key.decode() == theirs.number_key


def test_a_cameras_state_is_in_no_partition():
    assert QueueKeys("hand_counter", 4).camera("cam1").decode() == Keys("hand_counter").camera("cam1")


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_search_finds_streams_and_cameras(number: int, name: str):
    keys = QueueKeys("odd*prefix", number)
    for key in (keys.stream(name), keys.camera(name)):
        assert fnmatch.fnmatchcase(key.decode(), keys.all_streams.decode())
        assert keys.stream_name(key) == name.encode()


@pytest.mark.parametrize(
    "key", [b"{hand_counter}:counts", b"{hand_counter}:preview:cam1", b"{other}:stream:cam1", b"{hand_counter}:stream:"]
)
def test_other_keys_are_no_streams(key: bytes):
    assert QueueKeys("hand_counter").stream_name(key) is None
