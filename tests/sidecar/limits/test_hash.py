"""Which commands read the hash of limits, and what becomes of their answers."""

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from sidecar.connections.push import RefusedError
from sidecar.limits.hash import FpsHash, NoHashError

KEY = "limits"
ALL = ("HSCAN", KEY, "0", "COUNT", "1")
SOME = ("HMGET", KEY, "a", "b")
NO_PERMISSION = RefusedError(NoPermissionError("this user has no permissions"))
UNKNOWN = RefusedError(ResponseError("unknown command 'HSCAN'"))
WRONG_TYPE = RefusedError(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
LOADING = RefusedError(ResponseError("LOADING Redis is loading the dataset in memory"))


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
    """A scan that ends with its first step has given all there is; one that doesn't end has given nothing of use."""
    redis = Answers(hscan=answer)
    assert await redis.hash.whole() == fields
    assert redis.commands == [ALL]
    assert redis.reads == 1


async def test_a_field_that_is_no_utf8_is_nobodys() -> None:
    """It isn't taken for a stream whose name is what such bytes are shown as."""
    whole = await Answers(hscan=[b"0", [b"cam\xff", b"1"]]).hash.whole()
    assert whole is not None
    assert "cam\ufffd" not in whole
    assert "cam" not in whole


@pytest.mark.parametrize("refusal", [NO_PERMISSION, UNKNOWN])
async def test_whoever_may_not_scan_asks_once(refusal: RefusedError, caplog: pytest.LogCaptureFixture) -> None:
    """Then streams are read one by one, which is said once for a connection."""
    caplog.set_level("INFO")
    redis = Answers(hscan=refusal, hmget=[b"1", None])
    assert await redis.hash.whole() is None
    assert await redis.hash.whole() is None
    assert await redis.hash.fields(["a", "b"]) == [b"1", None]
    assert redis.commands == [ALL, SOME]
    assert redis.reads == 2
    assert len(caplog.messages) == 1


async def test_another_type_is_told_apart() -> None:
    """A key that is no hash is no outage."""
    redis = Answers(hscan=WRONG_TYPE, hmget=WRONG_TYPE)
    with pytest.raises(NoHashError):
        await redis.hash.whole()
    with pytest.raises(NoHashError):
        await redis.hash.fields(["a", "b"])


async def test_other_errors_are_the_owners() -> None:
    """A server that isn't ready yet is asked the same again."""
    redis = Answers(hscan=LOADING, hmget=LOADING)
    for _ in range(2):
        with pytest.raises(RefusedError):
            await redis.hash.whole()
    with pytest.raises(RefusedError):
        await redis.hash.fields(["a", "b"])
    assert redis.commands == [ALL, ALL, SOME]
