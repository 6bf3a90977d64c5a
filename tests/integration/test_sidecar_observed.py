"""What operators see of a sidecar process: --check, --shadow, pushes and resyncs, traces, logs."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.processes import programs
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

HASH = "stream_fps_configs"
NEEDS_OTEL = "needs the extra otel"


@pytest.fixture
def redis() -> Iterator[Valkey]:
    """Returns an empty Valkey."""
    with valkey() as server:
        yield server


def check(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs fps-sidecar --check."""
    return programs.run("sidecar", "--check", "--redis-url", url, *arguments)


def samples(sidecar: SidecarProcess) -> dict[tuple[str, ...], float]:
    """Returns the values of /metrics by name and label values."""
    with urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=120) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_check_passes_a_good_hash(redis: Valkey) -> None:
    """Valid limits exit with 0 and a summary that counts them and names the fallback."""
    with redis.client() as client:
        client.hset(HASH, mapping={f"cam{number}": str(number / 10) for number in range(3000)})
        done = check(redis.url, "--fps", "0.5")
        assert (done.returncode, done.stderr) == (0, "")
        assert "3000 fields, 0 invalid" in done.stdout
        assert "--fps 0.5" in done.stdout
        client.hset(HASH, "*", "4")
        assert "4 (*)" in check(redis.url).stdout


def test_check_lists_each_wrong_field(redis: Valkey) -> None:
    """Each invalid field is a line with its value; the exit code is 1."""
    with redis.client() as client:
        client.hset(HASH, mapping={"cam1": "1", "cam2": "fast", "cam3": "-2", "a" * 300: "1"})
    done = check(redis.url)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert len(lines) == 4
    assert "300" in lines[0]
    assert lines[1].startswith("'cam2': 'fast'")
    assert lines[2].startswith("'cam3': '-2'")
    assert "4 fields, 3 invalid" in lines[3]


def test_check_asks_the_running_sidecar(redis: Valkey) -> None:
    """Fields that none of its streams has are listed, and that isn't a failure."""
    with redis.client() as client:
        client.hset(HASH, mapping={"cam1": "1", "cam7": "2"})
    with sidecar_process(redis_url=redis.url) as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        for invalid in ("cam1\r", " cam1"):
            with pytest.raises(grpc.RpcError, match=r"INVALID_ARGUMENT"):
                stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=invalid), timeout=120)
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1"), timeout=120)
        done = check(redis.url, "--listen", sidecar.address)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "'cam7': no stream of the running sidecar has this name"


def test_check_of_an_empty_hash_is_fine(redis: Valkey) -> None:
    """A hash without limits is valid."""
    done = check(redis.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 fields" in done.stdout


def test_check_says_why_it_cannot_read(redis: Valkey) -> None:
    """No Redis, a hanging one, a key of the wrong type, a missing permission: exit code 1 and one line with the reason."""
    with redis.client() as client:
        client.set("text", "x")
        client.acl_setuser(
            "fps",
            enabled=True,
            passwords=["+pw"],
            keys=[HASH, f"{HASH}:patterns", f"{HASH}:boosts"],
            commands=["+hmget", "+ping", "+hello"],
        )
    url = f"redis://fps:pw@127.0.0.1:{redis.port}/0"
    for done, word in [
        (check("redis://127.0.0.1:1/0"), "127.0.0.1:1"),
        (check(redis.url, "--config-key", "text"), "WRONGTYPE"),
        (check(url), "hscan"),
    ]:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert word in done.stderr
        assert "pw" not in done.stderr
    with redis.client() as client:
        client.acl_setuser("fps", enabled=True, commands=["+hscan"])
    assert check(url).returncode == 0
    redis.pause()
    done = check(redis.url)
    redis.resume()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_shadow_mode_is_visible() -> None:
    """A sidecar in shadow mode admits every frame, and shows it in its log, GetServerInfo and metrics."""
    with sidecar_process("--shadow") as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        request = pb.ShouldProcessRequest(stream_name="cam1", ts=1.0)
        answers = [stub.ShouldProcess(request, timeout=120) for _ in range(2)]
        info = stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120)
        told = samples(sidecar)
        assert "shadow" in sidecar.logs()
    assert [(answer.should_process, answer.reason) for answer in answers] == [
        (True, pb.REASON_ADMITTED),
        (True, pb.REASON_DUPLICATE),
    ]
    assert info.settings["shadow"] == "True"
    assert told["sidecar_shadow",] == 1
    assert (told["sidecar_decisions_total", "ADMITTED"], told["sidecar_decisions_total", "DUPLICATE"]) == (1, 1)


def test_pushes_resyncs_and_streams_are_counted(redis: Valkey) -> None:
    """Each change of the hash is a push, the first reading a resync; streams beyond the cap are counted in other."""
    with (
        sidecar_process("--metrics-streams", "1", redis_url=redis.url) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
        redis.client() as client,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        wait_until(lambda: samples(sidecar)["sidecar_redis_state", "TRACKING"] == 1, "the limits to be followed")
        before = samples(sidecar)
        assert before["sidecar_redis_resyncs_total",] == 1
        stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=["a", "b", "c"], ts=[1.0] * 3), timeout=120)
        client.hset(HASH, "a", "2.5")
        client.set("unrelated", "1")
        wait_until(lambda: samples(sidecar).get(("sidecar_stream_fps", "a")) == 2.5, "the push")
        told = samples(sidecar)
        assert told["sidecar_redis_pushes_total",] == before["sidecar_redis_pushes_total",] + 1
        assert told["sidecar_redis_resyncs_total",] == 1
        client.hset(HASH, "a", "fast")
        wait_until(lambda: samples(sidecar)["sidecar_invalid_fps_values_total",] == 1, "the typo to be seen")
    assert told["sidecar_stream_admitted_total", "a"] == 1
    assert told["sidecar_stream_admitted_total", "other"] == 2
    assert told["sidecar_decision_seconds_count", "ShouldProcessBatch"] == 1
    assert {labels[0] for name, *labels in told if name == "sidecar_stream_achieved_fps"} == {"a"}


@pytest.mark.parametrize("scope", ["pod", "fleet"])
def test_no_frame_is_logged(redis: Valkey, scope: str) -> None:
    """At any log level the log doesn't grow with the frames: admitted, denied, refused, paused, with invalid limits."""
    flags = ("--scope", scope, "--log-level", "debug", "--log-format", "json", "--max-streams", "40", "--http", "")
    with redis.client() as client:
        client.hset(HASH, mapping={"s0": "fast", "s1": "0", "s2": "inf"})
        with (
            sidecar_process(*flags, redis_url=redis.url, constants=LIMITS_ARE_WAITED_FOR) as sidecar,
            grpc.insecure_channel(sidecar.address) as channel,
        ):
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            names = [f"s{number}" for number in range(50)]

            def ask(seconds: int) -> None:
                for second in range(seconds):
                    request = pb.ShouldProcessBatchRequest(stream_names=names, ts=[100.0 + second] * len(names))
                    stub.ShouldProcessBatch(request, timeout=120)
                    stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="s3", ts=1.0), timeout=120)

            ask(3)
            before = sidecar.logs().splitlines()
            ask(40)
            lines = sidecar.logs().splitlines()[len(before) :]
    assert len([line for line in before if json.loads(line).get("value") == "fast"]) == 1
    assert len(lines) <= 10, lines


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Runs an OTLP collector that keeps its spans; yields its URL and the spans."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

    spans: list[Any] = []

    class Collector(trace_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802, ARG002
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            return trace_pb.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", spans
    finally:
        server.stop(None).wait()


def test_spans_reach_the_collector() -> None:
    """Each call is exported as a child of the caller's span, at the latest when the sidecar ends."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason=NEEDS_OTEL)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with collector() as (endpoint, spans), sidecar_process("--otlp-endpoint", endpoint) as sidecar:
        with grpc.insecure_channel(sidecar.address) as channel:
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            metadata = (("traceparent", f"00-{trace}-{parent}-01"),)
            stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a"), metadata=metadata, timeout=120)
        sidecar.terminate()
        assert sidecar.wait() == 0
        assert [(span.name, span.trace_id.hex(), span.parent_span_id.hex()) for span in spans] == [
            ("handcounter.ratelimit.v1.RateLimitService/ShouldProcess", trace, parent)
        ]


def test_a_lost_collector_costs_nothing() -> None:
    """Decisions don't wait for the collector, the log doesn't grow with the calls, and the shutdown is quick."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason=NEEDS_OTEL)
    with sidecar_process("--otlp-endpoint", "http://127.0.0.1:1") as sidecar:
        with grpc.insecure_channel(sidecar.address) as channel:
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            for number in range(600):
                stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="a", ts=number / 10), timeout=120)
        sidecar.terminate()
        assert sidecar.wait() == 0
        assert len(sidecar.logs().splitlines()) < 50
