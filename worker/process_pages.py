"""One /metrics, /healthz and /livez for several processes: asks each for its own."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from process.address import split_host_port
from worker.group_health import Answer, Health, Member, State, are_alive, are_ready
from worker.status import STARTING_S

TIMEOUT_S = 2.0
"""How long a process may take to answer. One that takes longer is stuck: its endpoint has a thread of its own."""

LABEL = "process"
"""Added to each metric."""


class Page(NamedTuple):
    """What a process answered."""

    status: int
    """0: it didn't answer."""
    text: str


class ProcessPages(Collector):
    """The pages of all processes. For any thread."""

    def __init__(self, members: Callable[[], Sequence[Member]], clock: Callable[[], float] = time.monotonic) -> None:
        """Takes what returns what is known of each process, and a clock; the processes have just been started."""
        self._members = members
        self._clock = clock
        self._began = clock()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Returns whether all processes that have something left to do can count frames, and the answer of each."""
        processes = self._health_of_each("/healthz")
        return are_ready(processes), _details(processes)

    def alive(self) -> tuple[bool, dict[str, object]]:
        """Returns whether all processes make progress, and the answer of each. One that starts does, for ten minutes."""
        processes = self._health_of_each("/livez")
        return are_alive(processes, self._clock() - self._began, STARTING_S), _details(processes)

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: what the metrics are, is known when processes are asked."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics of all processes, each with the label `process`."""
        merged: dict[str, Metric] = {}
        for number, page in self._ask("/metrics").items():
            if page.status == HTTPStatus.OK:
                merge(merged, page.text, {LABEL: str(number)})
        return merged.values()

    def _health_of_each(self, path: str) -> list[Health]:
        pages = self._ask(path)
        processes: list[Health] = []
        # As they are now: a process that has ended while it was asked has no answer, and needs none.
        for number, member in enumerate(self._members()):
            page = pages.get(number)
            if member.ended:
                processes.append(State.DONE)
            elif page is None:
                processes.append(State.STARTING)
            else:
                processes.append(_answer(page))
        return processes

    def _ask(self, path: str) -> dict[int, Page]:
        opened = {
            number: member.address
            for number, member in enumerate(self._members())
            if member.address and not member.ended
        }
        if not opened:
            return {}
        with ThreadPoolExecutor(len(opened)) as pool:
            pages = pool.map(lambda address: fetch(f"http://{address}{path}"), opened.values())
            return dict(zip(opened, pages, strict=True))


def _answer(page: Page) -> Health:
    try:
        return Answer(page.status == HTTPStatus.OK, json.loads(page.text))
    except ValueError:
        return State.NO_ANSWER


def _details(processes: Sequence[Health]) -> dict[str, object]:
    return {"processes": [each.details if isinstance(each, Answer) else {"state": str(each)} for each in processes]}


def fetch(url: str) -> Page:
    """Returns what a process on this machine answers."""
    address, slash, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(*split_host_port(address), timeout=TIMEOUT_S)
    try:
        connection.request("GET", slash + path)
        answer = connection.getresponse()
        return Page(answer.status, answer.read().decode())
    except (OSError, http.client.HTTPException):  # among them: it ended while it answered
        return Page(0, "")
    finally:
        connection.close()


def merge(merged: dict[str, Metric], text: str, labels: Mapping[str, str]) -> None:
    """Adds the metrics of a page in Prometheus' text format to others by their name, with more labels."""
    for family in text_string_to_metric_families(text):
        known = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        for sample in family.samples:
            known.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
