"""Counted frames, for the tests of sinks."""

import json

from worker.queue.delivery import Counted


def counted(number: int = 1, stream_name: str = "cam1", hands: int = 2) -> Counted:
    """A counted frame with a number of its own."""
    result = json.dumps({"entry_id": f"{number}-0", "stream_name": stream_name, "hand_count": hands})
    return Counted(f"{number}-0", stream_name, 1000.0 + number, hands, result, None, 0.25, 640, 480)


def numbered(count: int) -> list[Counted]:
    """Counted frames from 1 on."""
    return [counted(number) for number in range(1, count + 1)]
