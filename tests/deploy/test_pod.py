"""Runs the rendered overlay dev as pods on a real engine, as an operator would see it on a cluster."""

import contextlib
import json
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import redis
import yaml
from podrun.cluster import Cluster
from podrun.kubelet import Pod
from support.deploy import K8S, needs_engine, one, render, run, tool
from support.processes.ports import free_port
from support.waiting import wait_until

from worker.queue.keys import CONSUMER_GROUP, Keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    needs_engine,
]

KEYS = Keys()
CAMERA = "cam1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Starts all pods of the overlay and waits until they are ready; a failing test prints the events."""
    with Cluster(render(K8S / "overlays/dev")) as running:
        running.wait_ready(180)
        yield running


@pytest.fixture(scope="module")
def pod(cluster: Cluster) -> Pod:
    """Returns the pod of the worker and its sidecar."""
    return cluster.pods["hand-counter"]


@pytest.fixture(scope="module")
def valkey(cluster: Cluster) -> Iterator[redis.Redis]:
    """Returns a client of the Valkey in the cluster."""
    with redis.Redis(host=cluster.pods["valkey"].address, decode_responses=True) as client:
        yield client


def fetch(url: str) -> str:
    """Returns the body of a page."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as page:
        return page.read().decode()


def metric(pod: Pod, port: int, name: str) -> float:
    """Returns the value of a metric without labels."""
    lines = fetch(f"http://{pod.address}:{port}/metrics").splitlines()
    (value,) = (line.split()[1] for line in lines if line.split()[0] == name)
    return float(value)


def counted(valkey: redis.Redis) -> int:
    """Returns the number of counted frames in the accounting."""
    return int(valkey.hget(KEYS.accounting, "counted") or 0)


def test_published_frames_come_out_counted(valkey: redis.Redis):
    """Frames that a camera publishes to the cluster's Valkey become results, at the limit that is set there."""
    valkey.hset("stream_fps_configs", CAMERA, "5")
    wait_until(lambda: counted(valkey) >= 5, "five frames are counted")
    ((_, entry),) = valkey.xrevrange(KEYS.counts, count=1)
    result = json.loads(entry["result"])
    assert result["stream_name"] == CAMERA
    assert valkey.hget(KEYS.accounting, "dead") in (None, "0")


def test_a_changed_limit_takes_effect_in_the_pod(valkey: redis.Redis):
    """A stream that is paused in Redis isn't counted any more, and continues when the limit is lifted; nothing restarts."""
    valkey.hset("stream_fps_configs", CAMERA, "0")
    wait_until(lambda: int(valkey.hget(KEYS.accounting, "skipped:paused") or 0) >= 3, "frames are skipped as paused")
    valkey.hset("stream_fps_configs", CAMERA, "5")
    before = counted(valkey)
    wait_until(lambda: counted(valkey) > before + 2, "counting continues")


def test_a_killed_sidecar_returns_and_the_worker_continues(pod: Pod, valkey: redis.Redis):
    """The kubelet restarts the sidecar at once; the worker counts meanwhile and afterwards without a restart."""
    sidecar, worker = pod.containers["sidecar"], pod.containers["worker"]
    restarts, before = sidecar.restarts, counted(valkey)
    sidecar.kill()
    wait_until(lambda: sidecar.restarts > restarts and sidecar.ready, "the sidecar is back")
    assert sidecar.exits[-1] == (137, False)
    wait_until(lambda: metric(pod, 9465, "hand_counter_sidecar_up") == 1, "the worker asks it again")
    wait_until(lambda: counted(valkey) > before + 3, "counting continues")
    assert worker.restarts == 0
    assert "ended with exit code 137" in pod.events.texts("sidecar")
    assert not [text for text in pod.events.texts("sidecar") if "back-off" in text]


def test_prometheus_scrapes_the_pod_and_an_alert_fires(pod: Pod, cluster: Cluster, valkey: redis.Redis, tmp_path):
    """Debian's Prometheus scrapes both endpoints of the PodMonitor; the alerts fire on their fault, and end."""
    documents = render(K8S / "overlays/gpu")
    with prometheus(documents, pod, tmp_path) as ask:
        wait_until(lambda: values(ask("up")) == [1.0, 1.0], "both endpoints are up")
        wait_until(lambda: not firing(ask), "no alert fires")
        valkey.xadd(KEYS.frames, {"stream_name": "nonsense", "ts": "yesterday"})
        wait_until(lambda: "HandCounterDeadLetters" in firing(ask), "the alert on dead letters")
        server = cluster.pods["valkey"].containers["valkey"]
        run("/usr/bin/docker", "pause", server.name)
        try:
            wait_until(lambda: "HandCounterRedisAway" in firing(ask), "the alert on Redis")
            wait_until(lambda: not pod.containers["worker"].ready, "the worker is not ready")
        finally:
            run("/usr/bin/docker", "unpause", server.name)
        wait_until(lambda: "HandCounterRedisAway" not in firing(ask), "the alert ends")
    wait_until(lambda: pod.ready, "the pod is ready again")
    assert pod.containers["worker"].restarts == 0, "an outage of Redis restarts nothing"


@contextlib.contextmanager
def prometheus(documents: list, pod: Pod, folder) -> Iterator[Callable[[str], list]]:
    """Runs a Prometheus with the PodMonitor's endpoints and the rules with shorter delays; yields a query function."""
    ports = {name: port for c in (*pod.spec.init, *pod.spec.main) for name, port in c.ports.items()}
    endpoints = one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"]
    rules = one(documents, "PrometheusRule")["spec"]
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    scrape = [
        {
            "job_name": endpoint["port"],
            "metrics_path": endpoint["path"],
            "static_configs": [
                {
                    "targets": [f"{pod.address}:{ports[endpoint['port']]}"],
                    "labels": {"namespace": pod.spec.namespace, "pod": pod.spec.name},
                }
            ],
        }
        for endpoint in endpoints
        if endpoint["port"] in ports  # the other programs' aren't in this pod
    ]
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": ["rules.yaml"], "scrape_configs": scrape}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [tool("prometheus"), *options, f"--web.listen-address={address}"], stdout=log, stderr=log
        )

    def ask(query: str) -> list:
        url = f"http://{address}/api/v1/query?query={urllib.request.quote(query)}"
        try:
            return json.loads(fetch(url))["data"]["result"]
        except OSError:
            return []

    try:
        yield ask
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def values(result: list) -> list[float]:
    """Returns the values of an instant query."""
    return [float(series["value"][1]) for series in result]


def firing(ask: Callable[[str], list]) -> set[str]:
    """Returns the names of the firing alerts."""
    return {series["metric"]["alertname"] for series in ask('ALERTS{alertstate="firing"}')}


def account(valkey: redis.Redis) -> tuple[int, int, int]:
    """Returns the numbers of received, settled and pending deliveries in Redis."""
    numbers = {name: int(number) for name, number in valkey.hgetall(KEYS.accounting).items()}
    ended = sum(n for name, n in numbers.items() if name == "counted" or name.startswith(("skipped:", "dead:")))
    return numbers["received"], ended, valkey.xpending(KEYS.frames, CONSUMER_GROUP)["pending"]


def test_a_deleted_pod_stops_in_order(pod: Pod, cluster: Cluster, valkey: redis.Redis):
    """SIGTERM ends the worker first, then the sidecar, both well within the grace period, and no delivery is lost."""
    cluster.pods["camera"].stop()
    pod.stop()
    stops = [event for event in pod.events.happened if event.text.startswith("stopped")]
    assert [event.container for event in stops] == ["worker", "sidecar"]
    assert all(running.exits[-1] == (0, False) for running in pod.containers.values())
    received, ended, pending = account(valkey)
    assert received == ended + pending


def test_a_successor_settles_what_was_left(pod: Pod, valkey: redis.Redis):
    """The next worker, as after an upgrade, settles what the previous one released, and the accounting is exact."""
    (worker,) = pod.spec.main
    network = ("--network", f"container:{pod.pause}")
    environment = ("--env", f"WORKER_REDIS_URL={worker.env['WORKER_REDIS_URL']}")
    run("/usr/bin/docker", "run", "--rm", *network, *environment, worker.image, "run", "--drain")
    received, ended, pending = account(valkey)
    assert (received, pending) == (ended, 0)
    assert valkey.hget(KEYS.accounting, "dead:bad_ts") == "1"
