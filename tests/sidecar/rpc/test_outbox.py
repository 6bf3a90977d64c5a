"""What waits to be sent in a session."""

import pytest

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc.outbox import MAX_NAMES_PER_REVOCATION, Outbox


def answers(*next_ts: float) -> pb.SessionAnswers:
    """Answers of which only next_ts matters."""
    return pb.SessionAnswers(next_ts=next_ts)


def sent(outbox: Outbox) -> list[object]:
    """Takes out everything: the number of answers of an answer, the names of a drop, or "all"."""
    messages: list[object] = []
    while (message := outbox.take()) is not None:
        drop = message.dropped_leases
        if message.HasField("answers"):
            messages.append(len(message.answers.next_ts))
        else:
            messages.append("all" if drop.all_streams else list(drop.stream_names))
    return messages


def test_answers_and_drops_keep_their_order() -> None:
    """Drops that follow each other are one message; an answer between them parts them."""
    outbox = Outbox()
    outbox.answer(["a", "b", "c"], answers(1.0, 1.0, 1.0))
    assert outbox.revoke("a")
    assert outbox.revoke("b")
    outbox.answer(["a"], answers(2.0))
    assert outbox.revoke("a")
    assert len(outbox) == 4
    assert sent(outbox) == [3, ["a", "b"], 1, ["a"]]
    assert outbox.take() is None


def test_only_leases_are_dropped() -> None:
    """Whoever holds none, or lost it already, is told nothing; a next_ts of 0 is no lease."""
    outbox = Outbox()
    outbox.answer(["a", "b"], answers(1.0, 0.0))
    assert outbox.leased == {"a"}
    assert not outbox.revoke("b")
    assert not outbox.revoke("unknown")
    assert outbox.revoke("a")
    assert not outbox.revoke("a")
    assert not outbox.revoke_all()
    assert sent(outbox) == [2, ["a"]]


def test_all_leases_are_dropped_in_one_message() -> None:
    """Names that wait in the same message are in it already."""
    outbox = Outbox()
    outbox.answer(["a", "b"], answers(1.0, 1.0))
    outbox.revoke("a")
    assert outbox.revoke_all()
    assert outbox.leased == set()
    assert sent(outbox) == [2, "all"]


@pytest.mark.parametrize(
    "drops", [MAX_NAMES_PER_REVOCATION + 1, MAX_NAMES_PER_REVOCATION + 2, 3 * MAX_NAMES_PER_REVOCATION]
)
def test_very_many_drops_become_one_of_all(drops: int) -> None:
    """However many streams change while nothing can be sent, what waits stays small, and nobody keeps a lease."""
    names = [f"cam{number}" for number in range(drops)]
    outbox = Outbox()
    outbox.answer(names, answers(*[1.0] * len(names)))
    for name in names:
        outbox.revoke(name)
    assert outbox.leased == set()
    assert sent(outbox) == [len(names), "all"]


def test_a_lease_after_the_drop_of_all_is_dropped_too() -> None:
    """The message that says all covers what is dropped after it, until an answer comes between."""
    outbox = Outbox()
    outbox.answer(["a"], answers(1.0))
    outbox.revoke_all()
    outbox.answer(["b"], answers(1.0))
    assert outbox.revoke("b")
    assert sent(outbox) == [1, "all", 1, ["b"]]
