"""The sidecar's flags and environment variables."""

import subprocess
import sys

import pytest
from support.processes.programs import repository_environment

from handcounter.pacing.schedule import Pacing
from process.settings import parse
from sidecar.__main__ import EXAMPLES
from sidecar.settings import SidecarSettings


def read(*arguments: str) -> SidecarSettings:
    """Returns the settings of a command line."""
    return parse(SidecarSettings, arguments, prog="fps-sidecar", epilog="", version="0")


def test_the_defaults_are_for_a_machine_with_redis_on_it() -> None:
    """Without flags: one frame per second, Redis on this machine, addresses on loopback."""
    settings = read()
    assert (settings.fps, settings.redis_url, settings.config_key) == (
        1.0,
        "redis://127.0.0.1:6379/0",
        "stream_fps_configs",
    )
    assert (settings.listen, settings.http, settings.health_listen) == (["127.0.0.1:50051"], "127.0.0.1:9464", "")
    assert (settings.pacing, settings.max_streams, settings.max_concurrent_calls) == (Pacing.GCRA, 100_000, 100)


def test_each_flag_is_an_environment_variable_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIDECAR_X means the same as --x; lists have commas."""
    monkeypatch.setenv("SIDECAR_FPS", "0.5")
    monkeypatch.setenv("SIDECAR_LISTEN", "127.0.0.1:1234,unix:/run/fps.sock")
    monkeypatch.setenv("SIDECAR_PACING", "min-gap")
    monkeypatch.setenv("SIDECAR_MAX_STREAMS", "7")
    settings = read("--fps", "3")
    assert (settings.fps, settings.pacing, settings.max_streams) == (3.0, Pacing.MIN_GAP, 7)
    assert settings.listen == ["127.0.0.1:1234", "unix:/run/fps.sock"]


@pytest.mark.parametrize("fps", ["0", "inf", "0.25", "1e-3"])
def test_any_rate_can_be_the_default(fps: str) -> None:
    """0 pauses all streams without a limit in Redis, inf admits all of their frames."""
    assert read("--fps", fps).fps == float(fps)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fps", "-1"], ["--fps", "-1"]),
        (["--fps", "nan"], ["--fps", "nan"]),
        (["--fps", "fast"], ["--fps", "fast"]),
        (["--redis-url", "http://x"], ["--redis-url", "redis://"]),
        (["--redis-url", "redis://x:port/0"], ["--redis-url", "port"]),
        (["--redis-url", "redis://x/zero"], ["--redis-url", "number"]),
        (["--redis-url", "redis://x/0?color=red"], ["--redis-url", "nothing after ?"]),
        (["--redis-url", "redis://u:p@x", "--redis-username", "v"], ["user once"]),
        (["--redis-url", "redis://:p@x", "--redis-password", "q"], ["password once"]),
        (["--redis-url", "redis://:p@x", "--redis-password-file", __file__], ["given twice"]),
        (["--redis-password-file", "/nowhere"], ["cannot read /nowhere"]),
        (["--redis-ca", __file__], ["certificates", "rediss://"]),
        (["--redis-url", "rediss://x", "--redis-cert", __file__], ["certificate and its key"]),
        (["--redis-url", "rediss://x", "--redis-ca", "/nowhere"], ["cannot read /nowhere"]),
        (["--redis-url", "rediss://x", "--redis-ca", __file__], [__file__, "no certificates"]),
        (
            ["--redis-url", "rediss://x", "--redis-cert", __file__, "--redis-key", __file__],
            ["aren't a certificate and its"],
        ),
        (["--redis-sentinel-password", "p"], ["redis+sentinel://"]),
        (["--listen", "0.0.0.0:50051"], ["0.0.0.0:50051", "--tls-cert", "--insecure"]),
        (["--listen", ":50051"], [":50051", "--tls-cert", "--insecure"]),
        (["--listen", "unix:/run/fps.sock", "--listen", "10.0.0.1:1"], ["10.0.0.1:1", "--insecure"]),
        (["--tls-cert", __file__], ["--tls-key"]),
        (["--tls-cert", __file__, "--tls-key", __file__], ["aren't a certificate"]),
        (["--tls-cert", "/nowhere", "--tls-key", __file__], ["cannot read /nowhere"]),
        (["--tls-client-ca", __file__], ["--tls-client-ca", "--tls-cert"]),
        (["--insecure", "--tls-cert", __file__, "--tls-key", __file__], ["--insecure", "exclude"]),
        (["--max-concurrent-calls", "0"], ["--max-concurrent-calls"]),
        (["--limits-from", "nowhere"], ["--limits-from"]),
        (["--limits-from", "a:1", "--limits-from-cert", "x"], ["--limits-from-cert and --limits-from-key"]),
        (
            ["--limits-from", "a:1", "--limits-from-cert", "x", "--limits-from-key", "y"],
            ["--limits-from-cert needs --limits-from-ca"],
        ),
        (["--limits-from", "a:1", "--limits-from-ca", "missing.crt"], ["missing.crt"]),
        (["--scope", "planet"], ["--scope", "planet", "fleet"]),
        (["--replicas", "0"], ["--replicas"]),
        (["--claim-wait", "0"], ["--claim-wait"]),
        (["--listen", "50051"], ["--listen", "HOST:PORT", "50051"]),
        (["--listen", "unix:fps.sock"], ["--listen", "absolute"]),
        (["--health-listen", "nowhere"], ["--health-listen", "nowhere"]),
        (["--http", "9464"], ["--http", "9464"]),
        (["--pacing", "slow"], ["--pacing", "slow", "gcra"]),
        (["--metrics-streams", "-1"], ["--metrics-streams", "-1"]),
        (["--otlp-endpoint", "localhost:4317"], ["--otlp-endpoint", "http://", "localhost:4317"]),
        (["--max-streams", "0"], ["--max-streams", "0"]),
        (["--grace", "-1"], ["--grace", "-1"]),
        (["--config-key", ""], ["--config-key"]),
        (["--frames", "3"], ["--frames"]),
        (["now"], ["now"]),
    ],
)
def test_a_wrong_usage_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    """A wrong flag or value exits 2 with one line that names it; the value is shown unless it is secret."""
    with pytest.raises(SystemExit) as end:
        read(*arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert [word for word in words if word not in error] == []


def test_a_wrong_environment_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in an environment variable names the variable."""
    monkeypatch.setenv("SIDECAR_FPS", "fast")
    with pytest.raises(SystemExit):
        read()
    assert "SIDECAR_FPS" in capsys.readouterr().err
    monkeypatch.delenv("SIDECAR_FPS")
    monkeypatch.setenv("SIDECAR_LISTEN", " , ")
    with pytest.raises(SystemExit):
        read()
    assert "SIDECAR_LISTEN: needs at least one address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("rediss://me:secret%2F@h/0", "rediss://me:***@h:6379/0"),
        ("redis://me@h/0", "redis://me@h:6379/0"),
        ("redis+sentinel://me:secret@h,g/main", "redis+sentinel://me:***@h:26379,g:26379/main/0"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
    ],
)
def test_the_password_is_masked(url: str, masked: str) -> None:
    """The settings are shown without the password in the URL."""
    assert SidecarSettings(redis_url=url).shown()["redis-url"] == masked


def test_the_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password from the environment completes the URL and isn't shown anywhere."""
    monkeypatch.setenv("SIDECAR_REDIS_PASSWORD", "secret")
    settings = read("--redis-url", "redis://h", "--redis-username", "me")
    assert (settings.redis.username, settings.redis.password) == ("me", "secret")
    assert "secret" not in str(settings.shown()) + repr(settings)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/run/fps.sock"])
def test_addresses_of_this_machine_need_no_certificate(address: str) -> None:
    """Loopback and unix sockets are served in plain text."""
    assert read("--listen", address).tls is None


def test_other_addresses_need_insecure() -> None:
    """With --insecure any address is served in plain text; health for probes always may be."""
    assert read("--listen", "0.0.0.0:1", "--insecure").insecure
    assert read("--health-listen", "0.0.0.0:1").health_listen == "0.0.0.0:1"


def test_settings_are_shown_as_flags() -> None:
    """The names and values are those of flags."""
    shown = read("--listen", "127.0.0.1:1", "--listen", "unix:/s", "--fps", "inf").shown()
    assert (shown["listen"], shown["fps"], shown["pacing"]) == ("127.0.0.1:1,unix:/s", "inf", "gcra")


@pytest.mark.parametrize("url", ["http://127.0.0.1:4317", "https://otel.internal:4317"])
def test_traces_need_their_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Without OpenTelemetry, --otlp-endpoint is an error that says what to install."""

    def not_there(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.util.find_spec", not_there)
    with pytest.raises(SystemExit) as end:
        read("--otlp-endpoint", url)
    assert end.value.code == 2
    assert "[otel]" in capsys.readouterr().err
    assert read().otlp_endpoint == ""


def test_help_has_worked_examples() -> None:
    """--help lists each flag with its variable, and ends with commands to try."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--help"], capture_output=True, text=True, env=repository_environment()
    )
    assert done.returncode == 0
    assert EXAMPLES.strip() in done.stdout
    for name in SidecarSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in done.stdout
        assert f"SIDECAR_{name.upper()}" in done.stdout
