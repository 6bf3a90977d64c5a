"""What the console costs: a browser that shows 500 cameras, of which each changes once a second, and Redis and the sidecar.

    python -m bench.console                      # 10 minutes; needs Chromium and `make browser`'s packages
    python -m bench.console --seconds 60

A real Valkey, a real sidecar that knows all cameras, and a real console. The cameras' hashes are written anew each second, as
workers would. In the browser: when the first content and the first tiles are painted, which share of a core scripts take and
which share all of the page's work takes, and the memory of scripts after a garbage collection, at the beginning and at the
end. Then, without a browser, what the console asks of Redis and of the sidecar, and its own CPU, with 1 and with 100 pages.
"""

import argparse
import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
from support.console.cameras import simulated_hashes
from support.console.processes import ConsoleProcess, console_process
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey
from support.waiting import wait_until

from bench.servers import cpu_seconds
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

CHROMIUM = "/usr/bin/chromium"
LOADS = 7
MARKS = """
window.marks = {};
new MutationObserver(() => {
  const tiles = document.querySelectorAll('.tile').length;
  if (tiles >= CAMERAS) marks.all ??= performance.now();
  if (tiles && !marks.made) {
    marks.made = performance.now();
    requestAnimationFrame(() => setTimeout(() => { marks.tiles = performance.now(); }));
  }
}).observe(document, {subtree: true, childList: true});
"""
"""Notes in the page when the first tiles were painted, and when the last one was made."""
SETTLING_S = 5.0
PAGES_S = 10.0


class Load(NamedTuple):
    """Per second."""

    redis_commands: float
    sidecar_calls: float
    cpu: float
    """Of the console, CPUs."""


@contextlib.contextmanager
def frames(address: str, names: list[str]) -> Iterator[None]:
    """Lets the sidecar decide a frame of each camera once a second while the block runs."""
    stop = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(address) as channel:
            stub = RateLimitServiceStub(channel)
            while not stop.wait(1.0):
                stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@contextlib.contextmanager
def pages(console: ConsoleProcess, number: int) -> Iterator[None]:
    """Opens the events of so many pages and reads them."""
    stop = threading.Event()
    sockets = []
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", console.port))
        connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\n\r\n".encode())
        connection.settimeout(0.2)
        sockets.append(connection)

    def read() -> None:
        while not stop.is_set():
            for connection in sockets:
                with contextlib.suppress(TimeoutError):
                    connection.recv(1 << 20)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        for connection in sockets:
            connection.close()


def counted(console: ConsoleProcess, metric: str) -> float:
    """Returns the sum of a counter of the console over its labels."""
    lines = console.get("/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))


def load(console: ConsoleProcess, seconds: float) -> Load:
    """Measures what the console asks for."""

    def now() -> tuple[float, float, float, float]:
        counts = [counted(console, f"console_{what}_total") for what in ("redis_commands", "sidecar_calls")]
        return time.monotonic(), *counts, cpu_seconds(console.process.pid)  # type: ignore[return-value]

    begin = now()
    time.sleep(seconds)
    end = now()
    span = end[0] - begin[0]
    return Load(*((after - before) / span for before, after in zip(begin[1:], end[1:], strict=True)))


def first_load(page: Any, url: str, cameras: int) -> tuple[float, float, float]:
    """Opens the wall; returns after how many seconds content, tiles and all tiles were there, by the browser's own clock."""
    page.add_init_script(MARKS.replace("CAMERAS", str(cameras)))
    page.goto(url)
    wait_until(lambda: page.evaluate("Boolean(marks.tiles && marks.all)"), "a tile for each camera", every_s=0.3)
    content = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    tiles, all_tiles = page.evaluate("[marks.tiles, marks.all]")
    return content / 1000, tiles / 1000, all_tiles / 1000


def browse(console: ConsoleProcess, cameras: int, seconds: float) -> None:
    """Shows the wall in Chromium, and prints what that takes."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        loads = []
        for _ in range(LOADS):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            loads.append(first_load(page, console.url, cameras))
            page.close()
        content, tiles, all_tiles = (statistics.median(times) for times in zip(*loads, strict=True))
        print(
            f"first content painted after {content:.2f} s, the first tiles after {tiles:.2f} s, a tile for each camera is "
            f"there after {all_tiles:.2f} s (medians of {LOADS} loads, each with an empty cache)"
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        first_load(page, console.url, cameras)
        session: Any = page.context.new_cdp_session(page)
        session.send("Performance.enable")

        def metrics() -> dict[str, float]:
            return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}

        def heap() -> float:
            session.send("HeapProfiler.collectGarbage")
            return metrics()["JSHeapUsedSize"] / 1e6

        page.wait_for_timeout(SETTLING_S * 1000)
        first, began, before = heap(), time.monotonic(), metrics()
        page.wait_for_timeout(seconds * 1000)
        span, after = time.monotonic() - began, metrics()
        script, task = ((after[name] - before[name]) / span for name in ("ScriptDuration", "TaskDuration"))
        print(f"scripts take {script:.1%} of a core, all work of the page {task:.1%}, over {span:.0f} s")
        print(f"memory of scripts {first:.1f} MB at the beginning, {heap():.1f} MB at the end")
        browser.close()


def main() -> None:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the browser shows the wall")
    parser.add_argument("--pages", type=int, default=100)
    options = parser.parse_args()
    names = [f"camera-{i:03}" for i in range(1, options.cameras + 1)]
    with (
        valkey() as server,
        server.client() as client,
        sidecar_process(redis_url=server.url, fps=2) as sidecar,
        frames(sidecar.address, names),
        simulated_hashes(client, options.cameras),
        console_process(redis_url=server.url, sidecar=sidecar.address) as console,
    ):
        wait_until(lambda: counted(console, "console_streams ") >= options.cameras, "all cameras are known")
        print(f"{options.cameras} cameras, {options.cameras} changes per second")
        browse(console, options.cameras, options.seconds)
        print("pages  commands to Redis/s  calls to the sidecar/s  CPUs of the console")
        for number in (1, options.pages, 1, options.pages):
            with pages(console, number):
                time.sleep(min(SETTLING_S, options.seconds))
                found = load(console, min(PAGES_S, options.seconds))
            print(
                f"{number:5}  {found.redis_commands:19.0f}  {found.sidecar_calls:22.1f}  {found.cpu:19.2f}", flush=True
            )


if __name__ == "__main__":
    main()
