"""The sidecar's flags and environment variables."""

import subprocess
import sys

import pytest
from servers import repository_environment

from process.settings import parse
from sidecar.__main__ import EXAMPLES
from sidecar.schedule import Pacing
from sidecar.settings import SidecarSettings, mask_password


def read(*arguments: str) -> SidecarSettings:
    """The settings that a command line gives."""
    return parse(SidecarSettings, arguments, prog="fps-sidecar", epilog="", version="0")


def test_the_defaults_are_those_of_a_machine_with_redis_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a flag it is one frame per second, the Redis and the ports of this machine."""
    settings = read()
    assert (settings.fps, settings.redis_url, settings.config_key) == (
        1.0,
        "redis://127.0.0.1:6379/0",
        "stream_fps_configs",
    )
    assert (settings.listen, settings.http, settings.health_listen) == (["127.0.0.1:50051"], "127.0.0.1:9464", "")
    assert (settings.pacing, settings.max_streams) == (Pacing.GCRA, 100_000)


def test_each_flag_is_an_environment_variable_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIDECAR_X says what --x says; lists are separated by commas."""
    monkeypatch.setenv("SIDECAR_FPS", "0.5")
    monkeypatch.setenv("SIDECAR_LISTEN", "127.0.0.1:1234,unix:/run/fps.sock")
    monkeypatch.setenv("SIDECAR_PACING", "min-gap")
    monkeypatch.setenv("SIDECAR_MAX_STREAMS", "7")
    settings = read("--fps", "3")
    assert (settings.fps, settings.pacing, settings.max_streams) == (3.0, Pacing.MIN_GAP, 7)
    assert settings.listen == ["127.0.0.1:1234", "unix:/run/fps.sock"]


@pytest.mark.parametrize("fps", ["0", "inf", "0.25", "1e-3"])
def test_any_rate_can_be_the_default(fps: str) -> None:
    """0 pauses all streams without a value, inf lets all through."""
    assert read("--fps", fps).fps == float(fps)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fps", "-1"], ["--fps", "-1"]),
        (["--fps", "nan"], ["--fps", "nan"]),
        (["--fps", "fast"], ["--fps", "fast"]),
        (["--redis-url", "http://x"], ["--redis-url", "redis://", "http://x"]),
        (["--redis-url", "redis://x:port/0"], ["--redis-url", "redis://x:port/0"]),
        (["--redis-url", "redis://x/zero"], ["--redis-url", "number", "zero"]),
        (["--redis-url", "redis://x/0?color=red"], ["--redis-url", "option"]),
        (["--listen", "50051"], ["--listen", "HOST:PORT", "50051"]),
        (["--listen", "unix:fps.sock"], ["--listen", "absolute"]),
        (["--health-listen", "nowhere"], ["--health-listen", "nowhere"]),
        (["--http", "9464"], ["--http", "9464"]),
        (["--pacing", "slow"], ["--pacing", "slow", "gcra"]),
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
    """A wrong flag or value exits 2 with one line that names the flag and the value."""
    with pytest.raises(SystemExit) as end:
        read(*arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert [word for word in words if word not in error] == []


def test_a_wrong_environment_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad value from the environment is blamed on its variable."""
    monkeypatch.setenv("SIDECAR_FPS", "fast")
    with pytest.raises(SystemExit):
        read()
    assert "SIDECAR_FPS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("rediss://me:secret%2F@h/0", "rediss://me:***@h/0"),
        ("redis://me@h/0", "redis://me@h/0"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
    ],
)
def test_the_password_is_masked(url: str, masked: str) -> None:
    """Where settings are shown, a password in the URL isn't."""
    assert mask_password(url) == masked
    assert "secret" not in SidecarSettings(redis_url=url).shown()["redis-url"]


def test_the_shown_settings_are_the_flags() -> None:
    """Settings are shown by their flags' names, as the flags would be written."""
    shown = read("--listen", "127.0.0.1:1", "--listen", "unix:/s", "--fps", "inf").shown()
    assert (shown["listen"], shown["fps"], shown["pacing"]) == ("127.0.0.1:1,unix:/s", "inf", "gcra")


def test_help_has_worked_examples() -> None:
    """--help tells each flag with its variable and shows commands, from the installed module."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--help"], capture_output=True, text=True, env=repository_environment()
    )
    assert done.returncode == 0
    assert EXAMPLES.strip() in done.stdout
    for name in SidecarSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in done.stdout
        assert f"SIDECAR_{name.upper()}" in done.stdout
