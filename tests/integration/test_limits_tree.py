"""Sidecars that follow each other instead of Redis, three levels deep, as processes with a real Valkey."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from support.limits import boost_value
from support.processes.ports import free_port
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.client import FpsSource, LimitsWatch, StreamLimit
from handcounter.pacing.limits import Boost, boosts_key, patterns_key
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
TIMEOUT_S = 60.0
PATIENT = {
    "sidecar.limits.follower.FIRST_READING_S": 60.0,
    "sidecar.limits.sidecar_follower.FIRST_READING_S": 60.0,
    "sidecar.server.FIRST_ATTEMPT_S": 60.0,
}
"""Constants of sidecars in which a stream's first frame waits for its limit, however busy the machine is."""


class Tree:
    """A Valkey, a sidecar that follows it, one that follows that one, and one that follows the second."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.valkey: Valkey = stack.enter_context(valkey())
        self.client = stack.enter_context(self.valkey.client())
        self.root = self.start(fps=7.0)
        self._middle_port = free_port()
        self.start_middle()
        self.leaf = self.start("--limits-from", self.middle.address)
        self.channel = stack.enter_context(grpc.insecure_channel(self.leaf.address))
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(self.channel)

    def start(self, *flags: str, fps: float = 1.0, port: int | None = None) -> SidecarProcess:
        """Starts a sidecar; one that follows another has no Redis."""
        where = {} if flags else {"redis_url": self.valkey.url}
        return self._stack.enter_context(sidecar_process(*flags, **where, fps=fps, port=port, constants=PATIENT))

    def start_middle(self) -> None:
        """Starts the one in between, also where an earlier one was."""
        self.middle = self.start("--limits-from", self.root.address, port=self._middle_port)

    def ask(self, stream_name: str) -> pb.ShouldProcessResponse:
        """Asks the lowest sidecar about a frame, without using up its turn."""
        return self.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=stream_name, dry_run=True), timeout=120)


@pytest.fixture(scope="module")
def running() -> Iterator[Tree]:
    """Three sidecars in a row."""
    with ExitStack() as stack:
        yield Tree(stack)


@pytest.fixture
def tree(running: Tree) -> Tree:
    """The same ones, whole and without limits in Redis; each test has streams of its own."""
    running.client.flushall()
    if running.middle.process.poll() is not None:
        running.start_middle()
    wait_until(lambda: (running.ask("any").fps, running.ask("any").stale) == (7.0, False), "no limit is left")
    return running


def test_limits_come_down_the_tree(tree: Tree) -> None:
    """To decisions and to watchers of the lowest one: a field, the wildcard, a typing error, and the default of the highest."""
    wait_until(
        lambda: f" limits_from={tree.middle.address}\n" in tree.leaf.logs(), "the lowest one names what it follows"
    )
    assert "redis_url" not in tree.leaf.logs()
    tree.client.hset(KEY, "cam1", "4")
    answer = tree.ask("cam1")
    assert (answer.fps, answer.fps_source, answer.stale, answer.limit_unread) == (
        4.0,
        pb.FPS_SOURCE_OVERRIDE,
        False,
        False,
    )
    answer = tree.ask("cam2")
    assert (answer.fps, answer.fps_source) == (7.0, pb.FPS_SOURCE_DEFAULT)
    with LimitsWatch(tree.leaf.address) as watch:
        for name in ("cam1", "cam2", "cam3"):
            watch.watch(name)
        assert watch.wait_told(TIMEOUT_S)
        assert watch.limit("cam3") == StreamLimit(7.0, FpsSource.DEFAULT, "")
        for field, value, told in (
            ("cam1", "0", StreamLimit(0.0, FpsSource.OVERRIDE, "")),
            ("cam1", "inf", StreamLimit(float("inf"), FpsSource.OVERRIDE, "")),
            ("cam1", "x", StreamLimit(float("inf"), FpsSource.OVERRIDE, "x")),
        ):
            tree.client.hset(KEY, field, value)
            wait_until(lambda told=told: watch.limit("cam1") == told, f"{told} is told")
        tree.client.hset(KEY, "*", "3")
        wait_until(lambda: watch.limit("cam2") == StreamLimit(3.0, FpsSource.WILDCARD, ""), "the wildcard is told")
        tree.client.delete(KEY)
        wait_until(lambda: watch.limit("cam1") == StreamLimit(7.0, FpsSource.DEFAULT, ""), "the default is told")
        wait_until(lambda: tree.ask("cam2").fps == 7.0, "decisions have it, too")


def test_without_redis_all_know_that_limits_are_stale(tree: Tree) -> None:
    """And that they aren't any more."""
    tree.client.hset(KEY, "left", "4")
    assert tree.ask("left").fps == 4.0
    tree.valkey.kill()
    wait_until(lambda: tree.ask("left").stale, "stale")
    assert tree.ask("left").fps == 4.0
    info = tree.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120)
    assert info.redis_state == pb.REDIS_STATE_AWAY
    assert "can't read the limits" in info.redis_problem
    tree.valkey.restart()
    tree.client.hset(KEY, "left", "5")
    wait_until(lambda: tree.ask("left").fps == 5.0, "the new limit")
    wait_until(lambda: not tree.ask("left").stale, "not stale")


def test_a_sidecar_in_between_is_lost(tree: Tree) -> None:
    """Those below keep the last limits, and follow its successor."""
    tree.client.hset(KEY, "cut-off", "0")
    assert tree.ask("cut-off").fps == 0.0
    tree.middle.kill()
    wait_until(lambda: tree.ask("cut-off").stale, "stale")
    assert tree.ask("cut-off").fps == 0.0
    assert tree.ask("unknown").limit_unread
    tree.client.hset(KEY, "cut-off", "5")
    tree.start_middle()
    wait_until(lambda: tree.ask("cut-off").fps == 5.0, "the new limit")
    wait_until(lambda: (tree.ask("unknown").fps, tree.ask("unknown").limit_unread) == (7.0, False), "the unknown limit")
    assert not tree.ask("cut-off").stale


def test_patterns_and_boosts_come_down_the_tree(tree: Tree) -> None:
    """With what they come from; and a boost ends at its time at the lowest one, also while the others are lost."""
    tree.client.hset(patterns_key(KEY), "floor1-*", "4")
    answer = tree.ask("floor1-a")
    assert (answer.fps, answer.fps_source) == (4.0, pb.FPS_SOURCE_PATTERN)
    until = time.time() + 4.0
    tree.client.hset(boosts_key(KEY), mapping={"floor1-a": boost_value(Boost(9.0, until))})
    wait_until(lambda: tree.ask("floor1-a").fps_source == pb.FPS_SOURCE_BOOST, "the boost")
    with LimitsWatch(tree.leaf.address) as watch:
        watch.watch("floor1-a")
        assert watch.wait_told(TIMEOUT_S)
        after = StreamLimit(4.0, FpsSource.PATTERN, "", pattern="floor1-*")
        assert watch.limit("floor1-a") in (StreamLimit(9.0, FpsSource.BOOST, "", False, "", until, after), after)
        tree.middle.kill()
        wait_until(lambda: watch.limit("floor1-a") == after, "the end")
    wait_until(lambda: tree.ask("floor1-a").fps == 4.0, "decisions have it, too")
    assert time.time() >= until
    tree.client.hset(patterns_key(KEY), "floor1-*", "5")
    tree.start_middle()
    wait_until(lambda: tree.ask("floor1-a").fps == 5.0, "the pattern that changed meanwhile")


def test_rates_of_sources_go_up_the_tree(tree: Tree) -> None:
    """What a publisher tells the lowest sidecar all above it show, until it ends."""
    with grpc.insecure_channel(tree.root.address) as channel:
        root = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        root.ShouldProcess(pb.ShouldProcessRequest(stream_name="source"), timeout=120)

        def shown() -> float:
            return root.ListStreams(pb.ListStreamsRequest(name_prefix="source"), timeout=120).streams[0].source_fps

        with LimitsWatch(tree.leaf.address) as watch:
            for rate in (25.0, 12.5):
                watch.watch("source", rate)
                wait_until(lambda rate=rate: shown() == rate, f"{rate} is shown")
        wait_until(lambda: shown() == 0.0, "the end is shown")
