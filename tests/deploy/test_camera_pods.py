"""Runs the overlay cameras, and workers that share a queue's partitions, as pods on a real engine."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import yaml
from podrun.cluster import Cluster
from podrun.network import Network
from support.camera_servers import PASSWORD, USER, Reply, http_server
from support.deploy import K8S, needs_engine, one, render
from support.publishing import jpeg
from support.waiting import wait_until

from worker.queue.keys import CONSUMER_GROUP
from worker.queue.partitions import Partitions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    needs_engine,
]

LIMITS = "stream_fps_configs"
PARTITIONS = Partitions(number=4)
WORKERS = 2
NAMESPACE = "hand-counter-dev"
NETWORK = Network("hccams", "10.213.80")
WORKERS_HERE = {
    "resources": ["../dev"],
    "components": ["../../components/partitions"],
    "configMapGenerator": [
        {
            "name": "worker-settings",
            "behavior": "merge",
            "literals": [f"WORKER_PARTITIONS={PARTITIONS.number}", f"WORKER_OWN=host/{WORKERS}"],
        }
    ],
    "replicas": [{"name": "hand-counter", "count": WORKERS}],
}
"""The workers of this machine: two, without a GPU."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serves two cameras on the node, which ask for a password; returns their address in the pods' network."""
    replies = {f"/{name}": Reply(jpeg(), kind="image/jpeg", login="Basic") for name in ("door", "yard")}
    with http_server(replies, "0.0.0.0") as served:
        yield f"http://{USER}:{{PASSWORD}}@{NETWORK.node}:{served.rpartition(':')[2]}"


def cameras_yaml(address: str, *names: str) -> dict:
    """Returns the ConfigMap of the overlay with other cameras."""
    cameras = [
        {"name": name, "source": f"{address}/{name}", "source-password-file": f"../passwords/{name}", "source-fps": 5}
        for name in names
    ]
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "cameras"},
        "data": {"cameras.yaml": yaml.safe_dump({"cameras": cameras})},
    }


def secret(name: str) -> dict:
    """Returns the Secret that an operator creates for a camera."""
    return {"kind": "Secret", "metadata": {"name": f"camera-{name}"}, "stringData": {"password": PASSWORD}}


@pytest.fixture(scope="module")
def cluster(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Starts two workers with their sidecars, the cameras' process with its own, and Valkey. One camera lacks its Secret."""
    folder = tmp_path_factory.mktemp("cameras") / "k8s"
    shutil.copytree(K8S, folder)
    (folder / "overlays/here").mkdir()
    (folder / "overlays/here/kustomization.yaml").write_text(yaml.safe_dump(WORKERS_HERE))
    overlay = folder / "overlays/cameras/kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("registry.example.com/", "localhost/"))
    workers = [d for d in render(folder / "overlays/here") if d["metadata"]["name"] != "camera"]
    ingest = one(render(folder / "overlays/cameras"), "Deployment")
    ingest["metadata"]["namespace"] = NAMESPACE
    (container,) = ingest["spec"]["template"]["spec"]["containers"]
    (variable,) = (each for each in container["env"] if each["name"] == "WORKER_PARTITIONS")
    variable["value"] = str(PARTITIONS.number)
    # In production the operator creates the logins, under these names without a hash.
    logins = [
        {**d, "metadata": {"name": d["metadata"]["name"].rpartition("-")[0]}} for d in workers if d["kind"] == "Secret"
    ]
    documents = [*workers, ingest, *logins, cameras_yaml(address, "door", "yard"), secret("door")]
    with Cluster(documents, network=NETWORK) as running:
        running.wait_ready(180)
        yield running


@pytest.fixture(scope="module")
def valkey(cluster: Cluster) -> Iterator[redis.Redis]:
    """Returns a client of the Valkey in the cluster."""
    with redis.Redis(host=cluster.pods["valkey"].address, decode_responses=True) as client:
        yield client


def counted(valkey: redis.Redis, name: str) -> int:
    """Returns how many frames of a camera are counted."""
    return int(valkey.hget(PARTITIONS.keys_of(name).stream(name), "counted") or 0)


def state(valkey: redis.Redis, name: str) -> dict[str, str]:
    """Returns what the publisher says about a camera."""
    return valkey.hgetall(PARTITIONS.keys_of(name).camera(name))


def restarts(cluster: Cluster) -> dict[str, int]:
    """Returns how often each container was restarted, of those that were."""
    return {
        f"{name} {container}": running.restarts
        for name, pod in cluster.pods.items()
        for container, running in pod.containers.items()
        if running.restarts
    }


def test_a_camera_whose_secret_is_there_is_counted_and_the_other_one_is_lost(
    cluster: Cluster, valkey: redis.Redis
) -> None:
    """The lost one says why, works as soon as its Secret is there, and each worker counts what is in its share."""
    wait_until(lambda: counted(valkey, "door") >= 2, "frames are counted")
    wait_until(lambda: state(valkey, "yard").get("state") == "lost", "the camera without a Secret is lost")
    assert "passwords/yard" in state(valkey, "yard")["error"]
    assert counted(valkey, "yard") == 0
    cluster.apply([secret("yard")])
    wait_until(lambda: counted(valkey, "yard") >= 2, "frames of the camera are counted once its Secret is there")
    workers = {name: reader(valkey, name) for name in ("door", "yard")}
    assert workers == {name: {f"hand-counter-{PARTITIONS.of(name) % WORKERS}"} for name in workers}
    assert sorted(workers.values(), key=min) == [{"hand-counter-0"}, {"hand-counter-1"}]
    assert restarts(cluster) == {}


def reader(valkey: redis.Redis, name: str) -> set[str]:
    """Returns the pods whose workers read a camera's partition."""
    consumers = valkey.xinfo_consumers(PARTITIONS.keys_of(name).frames, CONSUMER_GROUP)
    return {each["name"].rpartition("-")[0] for each in consumers}


def test_cameras_come_and_go_without_a_restart(cluster: Cluster, valkey: redis.Redis, address: str) -> None:
    """A changed list is followed, and the camera that stays in it isn't touched."""
    since = state(valkey, "door")["since"]
    cluster.apply([cameras_yaml(address, "door")])
    wait_until(lambda: state(valkey, "yard").get("state") == "stopped", "the camera that isn't listed any more")
    cluster.apply([cameras_yaml(address, "door", "yard")])
    wait_until(lambda: state(valkey, "yard").get("state") == "working", "the camera that is listed again")
    assert state(valkey, "door")["since"] == since
    assert restarts(cluster) == {}


def test_a_paused_camera_uploads_nothing(cluster: Cluster, valkey: redis.Redis) -> None:
    """The sidecar beside the cameras tells the limit; the other camera goes on."""
    valkey.hset(LIMITS, "door", "0")
    wait_until(lambda: stands_still(valkey, "door"), "a second without a frame")
    paused, other = counted(valkey, "door"), counted(valkey, "yard")
    wait_until(lambda: counted(valkey, "yard") > other, "the other one is counted")
    valkey.hdel(LIMITS, "door")
    wait_until(lambda: counted(valkey, "door") > paused, "it is counted again")
    assert restarts(cluster) == {}


def stands_still(valkey: redis.Redis, name: str) -> bool:
    """Returns whether the last entry of a camera's partition is older than a second by Redis' clock."""
    ((newest, _),) = valkey.xrevrange(PARTITIONS.keys_of(name).frames, count=1)
    seconds, micros = valkey.time()
    return int(newest.partition("-")[0]) / 1000 < seconds + micros / 1e6 - 1.5


def test_a_killed_worker_comes_back_to_its_share(cluster: Cluster, valkey: redis.Redis) -> None:
    """Nobody else takes its streams, the others aren't held up, and it counts on."""
    number = PARTITIONS.of("door") % WORKERS
    worker = cluster.pods[f"hand-counter-{number}"].containers["worker"]
    worker.kill()
    other = counted(valkey, "yard")
    wait_until(lambda: worker.exits, "the worker is gone")
    before = counted(valkey, "door")
    wait_until(lambda: counted(valkey, "yard") > other, "the other worker counts on")
    wait_until(lambda: worker.ready, "the worker is back")
    wait_until(lambda: counted(valkey, "door") > before, "its streams are counted again")
    assert reader(valkey, "yard") == {f"hand-counter-{1 - number}"}
    assert restarts(cluster) == {f"hand-counter-{number} worker": 1}


def test_everything_stops_cleanly_and_the_accounting_is_exact(cluster: Cluster, valkey: redis.Redis) -> None:
    """In each partition, with what waits for the next worker."""
    pods = [cluster.pods[name] for name in ("ingest", "hand-counter-0", "hand-counter-1")]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda pod: pod.stop(), pods))
    assert [running.exits[-1] for pod in pods for running in pod.containers.values()] == [(0, False)] * 6
    for keys in PARTITIONS:
        numbers = {field: int(number) for field, number in valkey.hgetall(keys.accounting).items()}
        received = numbers.pop("received", 0)
        assert received == sum(numbers.values()) + valkey.xpending(keys.frames, CONSUMER_GROUP)["pending"]
    assert counted(valkey, "door") > 2
