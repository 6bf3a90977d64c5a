"""The examples of docs/client.md run, and do what the page says."""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.processes.programs import REPOSITORY

from handcounter.client.leases import Leases
from handcounter.client.testing import FakeSidecar

PAGE = (REPOSITORY / "docs/client.md").read_text()
ADDRESS = "127.0.0.1:50051"
LOOP, BATCH, WATCH, TESTS, LEASE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """A sidecar at the default limit of 1 fps."""
    with FakeSidecar(leases=True) as sidecar:
        yield sidecar


def run(example: str, sidecar: FakeSidecar | None = None) -> dict[str, Any]:
    """Runs an example with the sidecar at its address, if it has one; returns what it defines."""
    names: dict[str, Any] = {}
    if sidecar is not None:
        # Local decisions would be others, and no busy machine makes them happen.
        for old, new in ((ADDRESS, sidecar.address), ("default_fps=1.0", "default_fps=0.0, deadline=60.0")):
            assert old in example
            example = example.replace(old, new)
    exec(example, names)
    return names


@pytest.mark.parametrize(("example", "requests"), [(LOOP, 5), (BATCH, 1)], ids=["loop", "batch"])
def test_the_examples_ask_the_sidecar(sidecar: FakeSidecar, example: str, requests: int) -> None:
    """Their own assertions hold, and with leases they make as few requests as the page says."""
    run(example, sidecar)
    assert len(sidecar.requests) == requests


def test_the_example_of_a_watch(sidecar: FakeSidecar) -> None:
    """Its assertions hold."""
    assert ADDRESS in WATCH
    run(WATCH.replace(ADDRESS, sidecar.address))


def test_the_example_of_tests_passes() -> None:
    """Each test function of the example."""
    names = run(TESTS)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


FPS = st.sampled_from([0.0, 1.0, math.inf])
TS = st.integers(0, 200).map(lambda number: number / 10)


@given(ts=TS, fps=FPS, last_ts=TS, due_in=st.one_of(st.none(), st.floats(0.001, 5.0)))
def test_the_leases_of_other_languages_are_those_of_this_client(
    ts: float, fps: float, last_ts: float, due_in: float | None
) -> None:
    """The function on the page gives the reasons of Leases, for any lease and frame."""
    due = None if due_in is None else math.inf if fps == 0.0 else last_ts + due_in
    leases = Leases()
    leases.grant("cam", fps=fps, last_ts=last_ts, next_ts=due)
    (expected,), _ = leases.deny([("cam", ts)], 0.0)
    found = run(LEASE)["reason_by_lease"](ts, fps, last_ts, due or 0.0)
    assert found == (expected.name if expected else None)
