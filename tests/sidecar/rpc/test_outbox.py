"""The messages that wait to be sent in a session."""

import pytest

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc.outbox import MAX_NAMES_PER_REVOCATION, Outbox


def answers(*next_ts: float) -> pb.ShouldProcessSessionResponse:
    """Returns answers in which only next_ts matters."""
    return pb.ShouldProcessSessionResponse(answers=pb.SessionAnswers(next_ts=next_ts))


def sent(outbox: Outbox) -> list[object]:
    """Takes all messages: for an answer the number of frames, for a drop the names or "all"."""
    messages: list[object] = []
    while (message := outbox.take()) is not None:
        drop = message.dropped_leases
        if message.HasField("answers"):
            messages.append(len(message.answers.next_ts))
        else:
            messages.append("all" if drop.all_streams else list(drop.stream_names))
    return messages


def test_answers_and_drops_keep_their_order() -> None:
    """Consecutive drops share one message; an answer between them separates them."""
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
    """A client without a lease, or that already lost it, gets no message; a next_ts of 0 grants no lease."""
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
    """The message for all leases replaces waiting names."""
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
    """However many streams change while nothing can be sent, the outbox stays small, and no lease remains."""
    names = [f"cam{number}" for number in range(drops)]
    outbox = Outbox()
    outbox.answer(names, answers(*[1.0] * len(names)))
    for name in names:
        outbox.revoke(name)
    assert outbox.leased == set()
    assert sent(outbox) == [len(names), "all"]


def test_a_lease_after_the_drop_of_all_is_dropped_too() -> None:
    """A waiting message for all leases also covers later drops, until an answer comes between."""
    outbox = Outbox()
    outbox.answer(["a"], answers(1.0))
    outbox.revoke_all()
    outbox.answer(["b"], answers(1.0))
    assert outbox.revoke("b")
    assert sent(outbox) == [1, "all", 1, ["b"]]
