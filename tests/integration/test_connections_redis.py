"""Every way to reach Redis, in pod and fleet scope: passwords, sockets, TLS, Sentinels, a cluster, least privileges."""

import contextlib
import importlib.resources
import re
from collections.abc import Callable, Iterator

import grpc
import pytest
from support.clients.fleet_player import player
from support.processes.programs import REPOSITORY
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.topologies import Cluster, answered, cluster, plain_client, replicated, tls_server, tls_skip
from support.redis.valkey import Valkey, valkey
from support.tls import Authority, Pair
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.fleet.claims import state_key

KEY = "stream_fps_configs"
SCOPES = ("pod", "fleet")


class Asked:
    """A sidecar and a client of it."""

    def __init__(self, process: SidecarProcess, channel: grpc.Channel) -> None:
        self.process = process
        self.stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        self.ts = 1000.0

    def answer(self) -> pb.ShouldProcessResponse:
        """Returns the answer about a frame that isn't too soon for any replica."""
        self.ts += 1000.0
        return self.stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=self.ts), timeout=120)

    def state(self) -> "pb.RedisState":
        """Returns the sidecar's Redis state."""
        return self.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120).redis_state

    def follows(self, set_fps: Callable[[float], object]) -> None:
        """Asserts that changes are pushed and, in fleet scope, that frames are decided in Redis."""
        for fps in (7.0, 8.0):
            set_fps(fps)
            wait_until(lambda fps=fps: self.answer().fps == fps, f"{fps} is in force")
        assert self.state() == pb.REDIS_STATE_TRACKING
        wait_until(lambda: not self.answer().stale, "Redis decides")


@contextlib.contextmanager
def asked(*arguments: str, **options: object) -> Iterator[Asked]:
    # Nothing here measures time, so Redis must never count as too slow.
    with (
        sidecar_process("--claim-wait", "5", *arguments, **options) as process,
        grpc.insecure_channel(process.address) as channel,
    ):
        yield Asked(process, channel)


def setter(server: Valkey, **options: object) -> Callable[[float], object]:
    """Returns a function that sets the fps of the stream in a server."""

    def set_fps(fps: float) -> None:
        with plain_client(server.port, **options) as client:
            client.hset(KEY, "cam", fps)

    return set_fps


@pytest.mark.parametrize("scope", SCOPES)
def test_user_and_password(scope, tmp_path):
    """The password comes from the URL, the environment, or a file that is read again for each connection."""
    with valkey("--requirepass", "secret") as server:
        password = tmp_path / "password"
        password.write_text("wrong\n")
        plain, full = f"redis://127.0.0.1:{server.port}/0", f"redis://:secret@127.0.0.1:{server.port}/0"
        set_fps = setter(server, password="secret")
        with asked("--scope", scope, redis_url=full) as sidecar:
            sidecar.follows(set_fps)
            assert "secret" not in sidecar.process.logs()
        environment = {"SIDECAR_REDIS_PASSWORD": "secret"}
        with asked("--scope", scope, redis_url=plain, environment=environment) as sidecar:
            sidecar.follows(set_fps)
        with asked("--scope", scope, "--redis-password-file", str(password), redis_url=plain) as sidecar:
            assert sidecar.state() == pb.REDIS_STATE_AWAY
            password.write_text("secret\n")
            sidecar.follows(set_fps)
            for damage in (b"\xff\xfe\x00", b"", None):  # a secret that is being replaced
                password.unlink() if damage is None else password.write_bytes(damage)
                with plain_client(server.port, password="secret") as client:
                    client.client_kill_filter(_type="normal", skipme=True)
                sidecar.follows(set_fps)
            assert "backward compatibility" not in sidecar.process.logs()


@pytest.mark.parametrize("scope", SCOPES)
def test_unix_socket_and_database(scope, tmp_path):
    """Redis can be reached through a unix socket, and in a database other than 0."""
    path = tmp_path / "redis.sock"
    with valkey("--unixsocket", str(path)) as server:
        for url in (f"unix://{path}?db=3", f"redis://127.0.0.1:{server.port}/3"):
            with asked("--scope", scope, redis_url=url) as sidecar:
                sidecar.follows(setter(server, db=3))


@pytest.fixture(scope="module")
def users() -> dict[str, list[str]]:
    """Returns the commands in the documentation by the user that they create."""
    commands = re.findall(r"^ACL SETUSER .*$", (REPOSITORY / "docs/redis-acl.md").read_text(), re.MULTILINE)
    return {words[2]: words for words in map(str.split, commands)}


@pytest.mark.parametrize(("scope", "user"), [("pod", "fps-sidecar"), ("fleet", "fps-fleet")])
def test_documented_permissions_are_enough(users, scope, user):
    """As the documented user, the sidecar follows changes, and in fleet scope the replicas share admissions."""
    with valkey() as server:
        with plain_client(server.port) as client:
            client.execute_command(*users[user])
        url = f"redis://{user}:SECRET@127.0.0.1:{server.port}/0"
        with asked("--scope", scope, redis_url=url) as first, asked("--scope", scope, redis_url=url) as second:
            first.follows(setter(server))
            with plain_client(server.port) as client:
                errors = [error for error in client.acl_log() if error["username"] == user]
            assert errors == []
            if scope == "fleet":
                metrics = ("sidecar_replicas 2.0", "sidecar_claims_in_time 1.0", "sidecar_alone_decisions_total 0.0")
                for sidecar in (first, second):
                    wait_until(lambda s=sidecar: all(line in page(s) for line in metrics), "both replicas are counted")


def page(sidecar: Asked) -> list[str]:
    """Returns the lines of /metrics."""
    import urllib.request

    with urllib.request.urlopen(f"http://{sidecar.process.http}/metrics", timeout=120) as response:
        return response.read().decode().splitlines()


def sources(*packages: str) -> list[str]:
    """The text of each module of these packages, and of each script beside them; a package without any is an error."""
    texts = []
    for package in packages:
        folder = importlib.resources.files(package)
        found = [file.read_text() for file in folder.iterdir() if file.name.endswith((".py", ".lua"))]
        assert any(found), f"no source in {package}"
        texts += found
    return texts


POD_PACKAGES = ("sidecar.connections", "sidecar.limits")


@pytest.mark.parametrize(
    ("user", "packages"), [("fps-sidecar", POD_PACKAGES), ("fps-fleet", (*POD_PACKAGES, "sidecar.fleet"))]
)
def test_no_documented_permission_is_spare(users, user, packages):
    """Each command that a documented user of the sidecar may run is one that it runs."""
    texts = sources(*packages)
    permissions = [word[1:].upper() for word in users[user] if word.startswith("+")]
    assert "HMGET" in permissions
    for permission in permissions:
        if permission == "HELLO":  # sent by redis-py
            continue
        for part in permission.split("|"):
            assert any(f'"{part}"' in text or f"'{part}'" in text for text in texts), permission


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shown(authority) -> Pair:
    """Returns what the sidecar shows to the server."""
    return authority.sign("client")


@pytest.fixture(scope="module")
def tls_port(authority) -> Iterator[int]:
    """Returns the port of a server that demands certificates."""
    server = authority.sign("server")
    with tls_server(authority.certificate, server.certificate, server.key) as port:
        yield port


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.skipif(tls_skip(), reason="needs Debian's redis-server")
def test_tls_with_client_certificate(scope, authority, shown, tls_port, tmp_path):
    """With rediss:// the server is verified with --redis-ca and gets --redis-cert."""
    files = {"ssl_ca_certs": authority.certificate, "ssl_certfile": shown.certificate, "ssl_keyfile": shown.key}
    options = {"ssl": True, **{name: str(path) for name, path in files.items()}}

    def set_fps(fps: float) -> None:
        with plain_client(tls_port, **options) as connection:
            connection.hset(KEY, "cam", fps)

    flags = [f"--redis-ca={authority.certificate}"]
    with asked("--scope", scope, *flags, redis_url=f"rediss://localhost:{tls_port}/0") as sidecar:
        assert sidecar.state() == pb.REDIS_STATE_AWAY  # the server requires a certificate
    flags += [f"--redis-cert={shown.certificate}", f"--redis-key={shown.key}"]
    with asked("--scope", scope, *flags, redis_url=f"rediss://localhost:{tls_port}/0") as sidecar:
        sidecar.follows(set_fps)
    stranger = Authority(tmp_path, "stranger")
    flags[0] = f"--redis-ca={stranger.certificate}"
    with asked("--scope", scope, *flags, redis_url=f"rediss://localhost:{tls_port}/0") as sidecar:
        assert sidecar.state() == pb.REDIS_STATE_AWAY


@pytest.mark.parametrize("scope", SCOPES)
def test_sentinel_failover(scope):
    """The sidecar follows the master that the Sentinels name, also after a failover."""
    with replicated() as servers, asked("--scope", scope, redis_url=servers.url) as sidecar:
        sidecar.follows(setter(servers.master))
        before = sidecar.answer()
        servers.master.kill()
        wait_until(lambda: sidecar.answer().stale, "the loss is noticed")
        assert sidecar.answer().fps == before.fps
        wait_until(answered(lambda: servers.master_port() == servers.replica.port), "the replica is the master")
        wait_until(lambda: not sidecar.answer().stale, "the new master is followed")
        sidecar.follows(setter(servers.replica))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.mark.parametrize("scope", SCOPES)
def test_cluster(nodes, scope):
    """The node with the limits is found from any node, and again after its hash slot moved."""
    source = nodes.node_of(KEY.encode())
    other = nodes.other_than(source)
    with asked("--scope", scope, redis_url=f"redis+cluster://127.0.0.1:{other.port}") as sidecar:
        sidecar.follows(setter(source))
        nodes.begin_move(KEY.encode(), other)
        nodes.end_move(KEY.encode(), source, other)
        nodes.wait_until_up()
        sidecar.follows(setter(other))


def test_cluster_claims_follow_moved_slots(nodes):
    """Claims go to the node with the stream's hash slot: before, during (ASK) and after (MOVED) a move, at every replica."""
    key = state_key("mover")
    source = nodes.node_of(key)
    target = nodes.other_than(source)
    with (
        asked("--scope", "fleet", redis_url=nodes.url) as first,
        asked("--scope", "fleet", redis_url=nodes.url) as second,
        player([first.process, second.process]) as playing,
    ):
        admitted = playing.play({"mover": 10.0}, 10.0)["mover"]
        nodes.begin_move(key, target)
        admitted += playing.play({"mover": 10.0}, 10.0)["mover"]
        nodes.end_move(key, source, target)
        admitted += playing.play({"mover": 10.0}, 10.0)["mover"]
        for sidecar in (first, second):
            assert "sidecar_alone_decisions_total 0.0" in page(sidecar)
    assert len(admitted) == pytest.approx(30, abs=1)
    with plain_client(target.port) as client:
        assert client.exists(key)


def test_cluster_that_lost_a_node(nodes):
    """Streams on the other nodes are decided in Redis as before; those on the lost node by each replica without Redis."""
    lost = nodes.other_than(nodes.node_of(KEY.encode()))
    names = {nodes.node_of(state_key(name)) is lost: name for name in (f"cam{number}" for number in range(50))}
    with asked("--scope", "fleet", redis_url=nodes.url) as sidecar:

        def stale(name: str) -> bool:
            sidecar.ts += 1000.0
            request = pb.ShouldProcessRequest(stream_name=name, ts=sidecar.ts)
            return sidecar.stub.ShouldProcess(request, timeout=120).stale

        wait_until(lambda: not stale(names[True]) and not stale(names[False]), "all claims are in time")
        lost.kill()
        try:
            wait_until(lambda: stale(names[True]), "the loss is noticed")
            assert not stale(names[False])
        finally:
            lost.restart()
        wait_until(lambda: not stale(names[True]), "the node is back")
