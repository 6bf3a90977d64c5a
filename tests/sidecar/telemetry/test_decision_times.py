"""The histogram of the decisions' times, against prometheus_client's own."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from sidecar.telemetry.decision_times import BUCKETS_S, DecisionTimes

TIMES = st.lists(st.one_of(st.sampled_from(BUCKETS_S), st.floats(0.0, 2.0)), max_size=30)


@given(TIMES, TIMES)
def test_a_scrape_tells_what_the_librarys_own_would(one: list[float], batch: list[float]) -> None:
    """Buckets, counts and sums by method are those of prometheus_client's histogram of the same times."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    times = DecisionTimes(("one", "batch"))
    ours.register(times)
    histogram = Histogram("sidecar_decision_seconds", "-", ["method"], buckets=BUCKETS_S, registry=theirs)
    for method, observed in (("one", one), ("batch", batch)):
        mine, its = times.of(method), histogram.labels(method).observe
        for seconds in observed:
            mine(seconds)
            its(seconds)
    assert samples(ours).keys() == samples(theirs).keys()
    for sample, value in samples(theirs).items():
        assert math.isclose(samples(ours)[sample], value)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """The lines of a scrape, without when a series began, which ours doesn't tell."""
    lines = (line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines) if "_created" not in name}
