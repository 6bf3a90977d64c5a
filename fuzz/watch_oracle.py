"""What the contract demands of the messages of a watch. Pure."""

import math
from typing import Any

from fuzz.oracle import good_requests
from fuzz.requests import Call, decoded
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb


class WatchJudge:
    """Judges the messages of one watch of a sidecar without Redis, in which no limit changes."""

    def __init__(self, call: Call) -> None:
        self.error = ""
        """What is wrong with a message; empty if nothing is."""
        good = good_requests(call)
        self._is_good = len(good) == len(call.requests)
        self._call = call
        self._added = {name for request in good for name in request.stream_names}
        self._untold: set[str] = set()
        for request in good:
            self._untold.difference_update(request.dropped_stream_names)
            self._untold.update(request.stream_names)
        self._watches = bool(self._untold)

    @property
    def goes_on(self) -> bool:
        """Whether everything was told that has to be, and the watch goes on until it is cancelled."""
        return self._is_good and self._watches and not self._untold

    def take(self, data: bytes) -> None:
        """Judges the next message."""
        message: Any = decoded(self._call.method.output_type, data)
        if message is None or message.pacing == pb.PACING_UNSPECIFIED:
            self.error = "it can't be decoded, or has no pacing"
            return
        for limit in message.limits:
            if limit.stream_name not in self._added:
                self.error = "it tells of a stream that isn't watched"
            if not 0.0 <= limit.fps < math.inf or limit.fps_source != pb.FPS_SOURCE_DEFAULT or not limit.limit_unread:
                self.error = f"without Redis it tells {limit.fps} fps"
            self._untold.discard(limit.stream_name)
