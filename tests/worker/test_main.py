"""The command line."""

import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.processes import programs
from support.processes.programs import REPOSITORY
from support.tls import Authority

from worker import __main__ as cli
from worker.hands.effort import Effort
from worker.hands.models import ModelPaths
from worker.options import HandsOptions
from worker.run_settings import RunSettings


@pytest.mark.parametrize("words", [(), ("models",), *(command.words for command in cli.COMMANDS)])
def test_help_has_worked_examples(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Every help text ends with examples."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    assert "examples:\n  hand-counter" in capsys.readouterr().out


def test_help_loads_neither_models_nor_redis() -> None:
    """It imports none of the heavy modules, so it is quick."""
    heavy = ["cv2", "numpy", "redis", "grpc", "pydantic", "ai_edge_litert"]
    program = "import sys, worker.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    program += f"sys.exit(' '.join(set(sys.modules) & set({heavy})))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    loaded = set(ended.stderr.split())
    assert loaded <= {"pydantic"}, loaded  # settings are parsed with it


def test_every_command_is_there() -> None:
    """The functions and the settings classes that the table names exist."""
    for command in cli.COMMANDS:
        assert callable(cli._load(command.function))
        assert cli._load(command.settings).__doc__


@pytest.mark.parametrize(
    ("program", "arguments", "variables", "said"),
    [
        ("worker", ("cuont",), {"WORKER_LOG_FORMAT": "JSON"}, "unknown command 'cuont'"),
        ("worker", ("run", "--fps", "x", "--log-format=json"), {}, "--fps: expected a decimal number"),
        ("sidecar", ("--listen", "x"), {"SIDECAR_LOG_FORMAT": "json"}, "--listen: expected HOST:PORT"),
    ],
)
def test_wrong_usage_is_json_if_the_log_is(
    program: str, arguments: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    """One object per line, whether a flag or the environment wishes it, and whatever is wrong with the others."""
    done = programs.run(program, *arguments, environment=variables)
    assert done.returncode == 2
    (entry,) = map(json.loads, done.stderr.splitlines())
    assert entry["message"] == "wrong usage"
    assert said in entry["error"]
    assert entry["hint"].endswith("--help")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected a command: run, "),
        (("cuont",), "unknown command 'cuont'"),
        (("models",), "unknown command 'models'"),
        (("run", "--fps", "fast"), "--fps: expected a decimal number"),
        (("run", "--fps", "-1"), "--fps: expected frames per second"),
        (("run", "--sidecar", "nowhere"), "--sidecar: expected HOST:PORT"),
        (("run", "--redis-url", "localhost"), "--redis-url: a Redis URL begins with redis://"),
        (("run", "--redis-url", "redis://localhost:port/0"), "--redis-url: "),
        (
            ("run", "--redis-url", "redis://localhost/frames"),
            "--redis-url: the database of a Redis URL must be a number",
        ),
        (("run", "--own", "1"), "--own: a share is I/N"),
        (("demo", "--redis-url", "redis+cluster://localhost"), "--redis-url: the demo's queue is on one server"),
        (("publish", "0", "--stream-name", "a", "--redis-ca", "/none"), "certificates for Redis need rediss://"),
        (("run", "--redis-password-file", "/none"), "cannot read /none"),
        (("run", "--sidecar-ca", "/none"), "cannot read /none"),
        (("run", "--sidecar-cert", "/none"), "--sidecar-cert and --sidecar-key must be given together"),
        (("run", "--sidecar-cert", "/none", "--sidecar-key", "/none"), "--sidecar-cert needs --sidecar-ca"),
        (
            ("demo", "--redis-url", "redis://localhost/0?colour=red"),
            "--redis-url: a redis:// URL takes nothing after ?",
        ),
        (("publish", "100", "--stream-name", "cam1"), "publish: SOURCE: expected a webcam's index, 0 to 99"),
        (("run", "--max-age", "0"), "--max-age: expected seconds"),
        (("run", "--batch-size", "5000"), "--batch-size: "),
        (("run", "--http", "9465"), "--http: expected HOST:PORT"),
        (("run", "--frames", "1"), "unknown flag --frames"),
        (("run", "--backend", "other"), "--backend: must be one of auto, hamer, palm, got 'other'"),
        (("detect",), "required: IMAGES"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and the line names the flag and the value."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_certificates_are_checked_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files with something else in them are wrong usage; with them no connection would ever succeed."""
    other = tmp_path / "other"
    other.write_text("no certificate")
    authority = Authority(tmp_path)
    own = authority.sign("own")
    trust = ["run", "--sidecar-ca", str(authority.certificate)]
    publish = ["publish", "0", "--stream-name", "a", "--redis-url", "rediss://x"]
    redis = ["run", "--redis-url", "rediss://x"]
    wrong = [
        ([*redis, "--redis-ca", str(other)], f"{other} has no certificates in PEM format"),
        ([*redis, "--redis-cert", str(own.certificate), "--redis-key", str(other)], "aren't a certificate and its"),
        ([*publish, "--redis-ca", str(other)], f"{other} has no certificates in PEM format"),
        (["run", "--sidecar-ca", str(other)], f"{other} has no certificates in PEM format"),
        ([*trust, "--sidecar-cert", str(own.certificate), "--sidecar-key", str(other)], "aren't a certificate and its"),
        (
            [*trust, "--sidecar-cert", str(own.certificate), "--sidecar-key", str(authority.pair.key)],
            "aren't a certifi",
        ),
    ]
    for arguments, said in wrong:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert RunSettings(sidecar_ca=authority.certificate, sidecar_cert=own.certificate, sidecar_key=own.key).sidecar_ca


def test_every_flag_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is WORKER_ and the name in capitals; the flag takes precedence."""
    monkeypatch.setenv("WORKER_FPS", "0.25")
    monkeypatch.setenv("WORKER_DRAIN", "true")
    monkeypatch.setenv("WORKER_SIDECAR", "unix:/run/fps.sock")
    settings = RunSettings()
    assert (settings.fps, settings.drain, settings.sidecar) == (0.25, True, "unix:/run/fps.sock")
    monkeypatch.setenv("WORKER_FPS", "fast")
    with pytest.raises(SystemExit):
        cli.main(["run"])


def test_detect_takes_files_and_short_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """--json and --draw reach the detector under the names of its arguments."""
    taken: dict[str, object] = {}
    monkeypatch.setattr("worker.detect.run_detect", lambda **arguments: taken.update(arguments) or 0)
    assert cli.main(["detect", "a.jpg", "b.jpg", "--json", "--draw", "out", "--effort", "thorough"]) == 0
    assert taken["images"] == ["a.jpg", "b.jpg"]
    assert (taken["json_output"], taken["draw_dir"], taken["hands"]) == (
        True,
        Path("out"),
        HandsOptions(effort=Effort.THOROUGH),
    )


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # it runs a second time here
def test_the_module_is_the_command_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m worker.hand_counter`` takes the flags of ``hand-counter run``."""

    def said(*flags: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["hand_counter.py", *flags])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("worker.hand_counter", run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    code, _, error = said("--fps", "fast")
    assert code == 2
    assert error.startswith("hand-counter run: --fps: ")
    help_of_the_module = said("--help")
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    assert help_of_the_module == (0, *capsys.readouterr())


def test_version() -> None:
    """--version names the program."""
    assert programs.run("worker", "--version").stdout.startswith("hand-counter ")


@pytest.mark.parametrize("command", [["run"], ["detect", "photo.jpg"]])
def test_hamer_without_a_checkpoint_is_wrong_usage(command, capsys):
    """It is reported before anything is started."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--backend", "hamer"])
    assert stopped.value.code == 2
    assert "--backend hamer needs --hamer-checkpoint" in capsys.readouterr().err


def test_hamers_weights_are_fetched_with_consent_only(tmp_path, capsys, monkeypatch):
    """Without a terminal and without --accept-licence nothing is fetched, and the licences are shown."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["models", "fetch", "--hamer", "--models-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "MANO" in message
    assert "--accept-licence" in message


def test_every_line_is_json(models: ModelPaths, tmp_path: Path) -> None:
    """Those of TensorFlow Lite and libjpeg too; without --log-format json they stay as they are."""
    picture = tmp_path / "damaged.jpg"
    encoded = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8))[1].tobytes()
    picture.write_bytes(encoded[: len(encoded) // 2] + b"\xff\xd9")
    command = ("worker", "detect", str(picture), "missing.jpg", "--models-dir", str(models.palm.parent))
    done = programs.run(*command, "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said = [line["line"] for line in lines if line["logger"] == "stderr"]
    for words in ("TensorFlow Lite", "Corrupt JPEG data", "hand-counter: missing.jpg: No such file"):
        assert any(words in line for line in said), (words, said)
    plain = programs.run(*command)
    assert (done.returncode, done.stdout) == (1, plain.stdout)
    assert "\nCorrupt JPEG data" in plain.stderr
