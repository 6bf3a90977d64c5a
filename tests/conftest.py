"""Set-up of all tests."""

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from support.processes import own_process
from support.processes.forks import ForkServer
from support.processes.programs import fork_servers, forks

from process.logs import LogHandler

# No test depends on the machine's speed or on luck: hypothesis has no deadlines and uses the same examples each time.
# `--hypothesis-profile search` tries other examples and prints how to replay a failing one.
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("search"), derandomize=True, database=None)
# Mutants are only found or not: nobody reads a small example.
settings.register_profile("mutants", settings.get_profile("suite"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("suite")


# Collection makes hundreds of thousands of objects that all stay: nothing would be found among them, again and again.
gc.disable()


def pytest_collection_finish() -> None:
    """Lets the garbage collector look at what the tests make, and only at that."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first, then those that start processes or find hands: no long file is the last to run."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    long = {"console", "integration", "worker"}
    items.sort(key=lambda item: 0 if item.path in slow else 1 if long & set(item.path.parts) else 2)


class _SharedForkServers:
    """Gives the processes of pytest-xdist the same fork servers, so that the programs are imported once for all of them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, bytes] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Starts them before those processes, so that they import the programs while the tests are collected."""
        if session.config.pluginmanager.has_plugin("dsession"):
            self._servers = self._stack.enter_context(fork_servers())

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a process of pytest-xdist the addresses."""
        node.workerinput["fork_servers"] = self._servers

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Ends them after the last test, before pytest-cov looks for what they measured."""
        with self._stack:
            return (yield)


PROCESSES = Path(own_process.__file__).parent


class _ForkedTestProcesses:
    """Makes the processes of pytest-xdist forks of one that has imported the tests, unless coverage is measured."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Names the program that stands for each of them."""
        config = session.config
        if config.pluginmanager.has_plugin("dsession") and not config.getoption("cov_source", None):
            server = self._stack.enter_context(ForkServer(config.args, os.environ, PROCESSES / "pytest_fork_server.py"))
            python = f"popen//python={sys.executable} -ES {PROCESSES / 'pytest_fork.py'} {server.address.hex()}"
            config.option.tx = [python if process == "popen" else process for process in config.option.tx]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Waits until they have ended."""
        self._stack.close()


STANDARD_ERROR = pytest.StashKey[int]()
"""A descriptor of pytest's own, which no test's captures replace."""


def pytest_configure(config: pytest.Config) -> None:
    """Shares the fork servers."""
    config.pluginmanager.register(_SharedForkServers())
    config.pluginmanager.register(_ForkedTestProcesses())
    config.stash[STANDARD_ERROR] = os.dup(2)


@pytest.fixture(scope="session", autouse=True)
def _this_process_stays() -> Iterator[None]:
    """Refuses what would end the process that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        own_process.protect(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _programs_are_forked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Starts the programs without importing everything again; each is a process of its own all the same."""
    with forks(getattr(request.config, "workerinput", {}).get("fork_servers")):
        yield


LOG_LEVEL = pytest.StashKey[int]()
"""The root logger's, before the test."""


# These two are hooks: fixtures of all tests would cost several times as much.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Has the stacks written if another process ends this one."""
    own_process.tell_signals_from_others(item.config.stash[STANDARD_ERROR])
    item.stash[LOG_LEVEL] = logging.root.level


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test that tried to end this process, also if nothing noticed the exception.

    Removes the log handler that a program's main leaves when a test calls it: its standard error is closed by then.
    """
    try:
        return (yield)
    finally:
        root = logging.root
        for handler in [handler for handler in root.handlers if type(handler) is LogHandler]:
            root.removeHandler(handler)
        root.setLevel(item.stash[LOG_LEVEL])
        attempts = own_process.refused.copy()
        own_process.refused.clear()
        assert not attempts
