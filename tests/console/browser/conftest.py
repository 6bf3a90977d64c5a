"""A real Chromium, and everything that its page needs. `make browser` runs these tests; elsewhere they are skipped."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.console.cameras import Camera, Cameras
from support.console.pages import console_page
from support.console.pictures import pictures
from support.console.processes import ConsoleProcess, console_process
from support.processes.sidecars import SidecarProcess
from support.redis.valkey import Valkey

SCENES = 8
CHROMIUM = "/usr/bin/chromium"
NAMES = (
    "assembly-1", "assembly-2", "bakery", "canteen", "dock-north", "dock-south", "entrance", "floor1-east", "floor1-west",
    "packing", "reception", "warehouse-7",
)  # fmt: skip
HOSTILE = ("<img src=x onerror=document.title='owned'>", "\u202egpj.mac", "كاميرا 7", "a/b?c=d&e#f")


@pytest.fixture(scope="session", autouse=True)
def _only_where_there_is_a_browser() -> None:
    if not os.environ.get("BROWSER"):
        pytest.skip("needs Chromium: make browser")
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} doesn't exist: apt-get install chromium"


@pytest.fixture(scope="session")
def chromium(_only_where_there_is_a_browser: None) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cameras(request: pytest.FixtureRequest, server: Valkey, sidecar: SidecarProcess) -> Iterator[Cameras]:
    shown = pictures(SCENES)
    fps = (25.0, 15.0, 30.0, 10.0)
    made = [Camera(name, fps[i % 4], shown[i % len(shown)].hands) for i, name in enumerate(NAMES)]
    made += [Camera(name) for name in getattr(request.module, "ODD_NAMES", HOSTILE)]
    jpegs = {name: shown[i % len(shown)].jpeg for i, name in enumerate(NAMES)}
    with server.client() as client, Cameras(client, sidecar.address, made, jpegs) as running:
        yield running
        assert not running.errors


@pytest.fixture(scope="module")
def console(server: Valkey, sidecar: SidecarProcess, cameras: Cameras) -> Iterator[ConsoleProcess]:
    with console_process("--allow-changes", redis_url=server.url, sidecar=sidecar.address) as running:
        yield running


@pytest.fixture
def client(server: Valkey) -> Iterator[Any]:
    with server.client() as opened:
        opened.delete("stream_fps_configs", "stream_fps_configs:patterns", "stream_fps_configs:boosts")
        yield opened


@pytest.fixture
def open_page(chromium: Any, console: ConsoleProcess) -> Iterator[Callable[..., Any]]:
    """Opens the console; the test fails if the page logs an error or breaks its own Content-Security-Policy."""
    opened = []

    def open_one(place: str = "", **options: Any) -> Any:
        page = console_page(chromium, console.url + place, **options)
        opened.append(page)
        return page

    yield open_one
    problems = [problem for page in opened for problem in page.problems]
    for page in opened:
        page.context.close()
    assert problems == []
