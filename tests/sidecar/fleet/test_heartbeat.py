"""How many replicas there are, by the recent counts."""

import pytest

from sidecar.fleet.claims import REPLICA_GONE_S
from sidecar.fleet.heartbeat import ReplicaCount

BREAK = None
"""A heartbeat that wasn't answered."""

JUST_BEFORE_S = REPLICA_GONE_S - 0.5


@pytest.mark.parametrize(
    ("heard", "replicas"),
    [
        ([], 3),
        # More count at once, fewer only after the time in which a silent one is gone.
        ([(0.0, 4)], 4),
        ([(0.0, 1)], 3),
        ([(0.0, 1), (JUST_BEFORE_S, 1)], 3),
        ([(0.0, 1), (REPLICA_GONE_S, 1)], 1),
        ([(0.0, 4), (1.0, 2), (1.0 + JUST_BEFORE_S, 2)], 2),
        ([(0.0, 4), (1.0, 2), (JUST_BEFORE_S, 2)], 4),
        # Each replica that is heard again counts.
        ([(0.0, 4), (1.0, 1), (2.0, 2), (3.0, 4), (20.0, 4)], 4),
        ([(0.0, 4), (1.0, 1), (2.0, 3), (6.9, 2)], 3),
        # What was heard before an outage of Redis isn't confirmed by one answer after it.
        ([(0.0, 4), BREAK, (100.0, 1)], 4),
        ([(0.0, 4), BREAK, (100.0, 1), (101.0, 2), BREAK, (200.0, 1)], 4),
        ([(0.0, 4), BREAK, (100.0, 1), (100.0 + REPLICA_GONE_S, 2)], 2),
        ([(0.0, 4), (100.0, 2), BREAK], 2),
    ],
)
def test_count(heard: list[tuple[float, int] | None], replicas: int) -> None:
    """The highest recent count since the last break; the number from before the break counts as one of them."""
    count = ReplicaCount(3)
    for each in heard:
        if each is BREAK:
            count.interrupt()
        else:
            at, replicas_heard = each
            count.add(replicas_heard, at)
    assert count.replicas == replicas
