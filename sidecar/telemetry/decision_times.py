"""How long decisions took: a histogram counted in plain numbers, which are read when Prometheus asks.

prometheus_client's own takes a lock for the sum and one for the bucket, and looks through the buckets one by one, which a
single decision would notice. All decisions are made in one thread, so nothing here needs a lock: a scrape at the same
time may miss the newest one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_BOUNDS: Final = (*map(str, BUCKETS_S), "+Inf")


class _Times:
    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


class DecisionTimes(Collector):
    """The times by method.

    Args:
        methods: what questions are asked by; each has its series from the start.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        self._times = {method: _Times() for method in methods}

    def of(self, method: str) -> Callable[[float], None]:
        """What takes in how long a question of this method took, seconds; for one thread."""
        return self._times[method].observe

    def collect(self) -> Iterator[Metric]:
        """Gives the histogram."""
        family = HistogramMetricFamily(
            "sidecar_decision_seconds",
            "Time in the sidecar from a question to its answer, by method.",
            labels=["method"],
        )
        for method, times in self._times.items():
            buckets = list(zip(_BOUNDS, map(float, accumulate(times.counts)), strict=True))
            family.add_metric([method], buckets, times.total_s)
        yield family
