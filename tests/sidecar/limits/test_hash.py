"""Which commands read the hash of limits, and what becomes of their answers."""

import pytest

from sidecar.connections.errors import RejectedError
from sidecar.limits.hash import FpsHash, NotAHashError

KEY = "limits"
ALL = ("HSCAN", KEY, "0", "COUNT", "1")
SOME = ("HMGET", KEY, "a", "b")
NO_PERMISSION = RejectedError("NOPERM", "NOPERM this user has no permissions")
UNKNOWN = RejectedError("ERR", "ERR unknown command 'HSCAN'")
WRONG_TYPE = RejectedError("WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value")
LOADING = RejectedError("LOADING", "LOADING Redis is loading the dataset in memory")


class Answers:
    """A connection whose answers are set; an exception is raised."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.commands: list[tuple[str, ...]] = []
        self.reads = 0
        self.hash = FpsHash(self._call, KEY, self._read)

    async def _call(self, *command: str) -> object:
        self.commands.append(command)
        answer = self.answers[command[0].lower()]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _read(self) -> None:
        self.reads += 1


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ([b"0", []], {}),
        ([b"0", [b"a", b"1", b"*", b"2"]], {"a": b"1", "*": b"2"}),
        ([b"0", ["ä".encode(), b"1"]], {"ä": b"1"}),
        ([b"64", [b"a", b"1"]], None),
    ],
)
async def test_a_small_hash_is_read_whole(answer: object, fields: dict[str, bytes] | None) -> None:
    """A scan that ends with its first step has returned all fields; the first step of a longer one is of no use."""
    redis = Answers(hscan=answer)
    assert await redis.hash.read_whole() == fields
    assert redis.commands == [ALL]
    assert redis.reads == 1


async def test_a_field_that_isnt_utf8_belongs_to_no_stream() -> None:
    """It isn't mistaken for a stream whose name looks like it."""
    whole = await Answers(hscan=[b"0", [b"cam\xff", b"1"]]).hash.read_whole()
    assert whole is not None
    assert "cam\ufffd" not in whole
    assert "cam" not in whole


@pytest.mark.parametrize("refusal", [NO_PERMISSION, UNKNOWN])
async def test_a_rejected_scan_isnt_tried_again(refusal: RejectedError, caplog: pytest.LogCaptureFixture) -> None:
    """Then streams are read one by one, which is logged once for a connection."""
    caplog.set_level("INFO")
    redis = Answers(hscan=refusal, hmget=[b"1", None])
    assert await redis.hash.read_whole() is None
    assert await redis.hash.read_whole() is None
    assert await redis.hash.read_fields(["a", "b"]) == [b"1", None]
    assert redis.commands == [ALL, SOME]
    assert redis.reads == 2
    assert len(caplog.messages) == 1


async def test_another_type_has_an_error_of_its_own() -> None:
    """A key that isn't a hash isn't an outage."""
    redis = Answers(hscan=WRONG_TYPE, hmget=WRONG_TYPE)
    with pytest.raises(NotAHashError):
        await redis.hash.read_whole()
    with pytest.raises(NotAHashError):
        await redis.hash.read_fields(["a", "b"])


async def test_other_errors_are_raised() -> None:
    """A server that isn't ready yet is asked the same again."""
    redis = Answers(hscan=LOADING, hmget=LOADING)
    for _ in range(2):
        with pytest.raises(RejectedError):
            await redis.hash.read_whole()
    with pytest.raises(RejectedError):
        await redis.hash.read_fields(["a", "b"])
    assert redis.commands == [ALL, ALL, SOME]
