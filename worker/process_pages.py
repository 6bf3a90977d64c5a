"""One /metrics, /healthz and /livez for several processes: asks each for its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

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

    def __init__(self, number: int, addresses: Callable[[], Mapping[int, str]]) -> None:
        """Takes how many processes there are, and what returns the addresses of those that have their pages open."""
        self._number = number
        self._addresses = addresses
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Returns whether all processes can count frames, and what each says."""
        return self._verdict("/healthz", starting=False)

    def alive(self) -> tuple[bool, dict[str, object]]:
        """Returns whether all processes make progress, and what each says. One that starts does."""
        return self._verdict("/livez", starting=True)

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

    def _verdict(self, path: str, *, starting: bool) -> tuple[bool, dict[str, object]]:
        pages = self._ask(path)
        healthy, details = True, []
        for number in range(self._number):
            page = pages.get(number)
            if page is None:
                healthy = healthy and starting
                details.append({"state": "starting"})
            else:
                healthy = healthy and page.status == HTTPStatus.OK
                details.append(json.loads(page.text) if page.status else {"state": "no answer"})
        return healthy, {"processes": details}

    def _ask(self, path: str) -> dict[int, Page]:
        addresses = dict(sorted(self._addresses().items()))
        if not addresses:
            return {}
        with ThreadPoolExecutor(len(addresses)) as pool:
            pages = pool.map(lambda address: fetch(f"http://{address}{path}"), addresses.values())
            return dict(zip(addresses, pages, strict=True))


def fetch(url: str) -> Page:
    """Returns what a process on this machine answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return Page(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Page(error.code, error.read().decode())
    except OSError:
        return Page(0, "")


def merge(merged: dict[str, Metric], text: str, labels: Mapping[str, str]) -> None:
    """Adds the metrics of a page in Prometheus' text format to others by their name, with more labels."""
    for family in text_string_to_metric_families(text):
        known = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        for sample in family.samples:
            known.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
