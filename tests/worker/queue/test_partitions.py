"""Which partition a stream belongs to, which keys that has, and which worker reads it."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from worker.queue.keys import Keys
from worker.queue.partitions import MOST_PARTITIONS, Partitions, Share, parse_share, prefix_error

NUMBERS = st.integers(1, 4096)
PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")


def test_one_partition_has_the_keys_of_the_queue() -> None:
    """So nothing changes for those who have one."""
    assert list(Partitions("site", 1)) == [Keys("site")]
    assert Partitions("site", 1).keys_of("cam1").frames == "{site}:frames"


def test_partitions_have_their_number_in_the_tag() -> None:
    """Other programs compute these keys, so they are documented and stay."""
    partitions = Partitions("site", 4)
    assert [keys.frames for keys in partitions] == [f"{{site:{i}}}:frames" for i in range(4)]
    assert partitions.number_key == "{site}:partitions"
    assert partitions.of("cam1") == zlib.crc32(b"cam1") % 4 == 2
    assert partitions.keys_of("cam1").payload("7") == "{site:2}:frame:7"
    assert partitions.of("Tür") == zlib.crc32("Tür".encode()) % 4


@given(st.text(PRINTABLE, min_size=1), NUMBERS)
def test_a_stream_has_one_partition(name: str, number: int) -> None:
    """All keys of it are in one hash slot."""
    keys = Partitions("site", number).keys_of(name)
    every = (keys.frames, keys.counts, keys.accounting, keys.dead, keys.unread, keys.payload("1"), keys.stream(name))
    assert len({key_slot(key.encode()) for key in every}) == 1
    assert keys in list(Partitions("site", number))


@given(NUMBERS, st.integers(1, 50))
def test_shares_have_each_partition_once(number: int, of: int) -> None:
    """And they differ by one partition at most."""
    shares = [Share(index, of).partitions(number) for index in range(of)]
    assert sorted(each for share in shares for each in share) == list(range(number))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("number", [0, 3, 10, MOST_PARTITIONS - 1])
@pytest.mark.parametrize("prefix", ["hand_counter", "site:a", "site:7"])
def test_no_prefix_has_the_keys_of_a_partition(prefix: str, number: int) -> None:
    """A queue whose prefix is a partition's tag would be that partition, so it is refused and the message says whose it is."""
    tag = f"{prefix}:{number}"
    assert Partitions(tag).only == Partitions(prefix, MOST_PARTITIONS).keys(number)
    assert f"partition {number} of the prefix '{prefix}'" in prefix_error(tag)


@pytest.mark.parametrize(
    "prefix",
    [
        "hand_counter",
        "hand_counter_3",
        "3",
        "site:a",
        "site:",
        "site:03",
        "site:4096",
        "site:-1",
        "site:1a",
        "site:٣",
        "a:3:b",
    ],
)
def test_other_prefixes(prefix: str) -> None:
    """They can't be a partition's tag."""
    assert prefix_error(prefix) is None


@pytest.mark.parametrize(
    ("text", "host", "share"),
    [
        ("0/4", "", Share(0, 4)),
        ("3/4", "", Share(3, 4)),
        ("0/1", "", Share(0, 1)),
        ("host/4", "hand-counter-2", Share(2, 4)),
        ("host/12", "worker-11", Share(11, 12)),
    ],
)
def test_what_a_share_means(text: str, host: str, share: Share) -> None:
    """The number of a share is given, or ends the host name."""
    assert parse_share(text, host) == share


@pytest.mark.parametrize(
    ("text", "host", "part"),
    [
        ("", "", "a share is I/N"),
        ("1", "", "a share is I/N"),
        ("a/4", "", "a share is I/N"),
        ("1/", "", "a share is I/N"),
        ("-1/4", "", "a share is I/N"),
        ("1/4/2", "", "a share is I/N"),
        ("٣/4", "", "a share is I/N"),
        ("4/4", "", "numbered from 0 to 3"),
        ("0/0", "", "share 0/0 doesn't exist"),
        ("host/4", "worker", "it is worker"),
        ("host/4", "4", "it is 4"),
        ("host/4", "worker-a", "it is worker-a"),
        ("host/2", "worker-2", "share 2/2 doesn't exist"),
    ],
)
def test_a_share_that_does_not_exist(text: str, host: str, part: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(ValueError, match=part):
        parse_share(text, host)
