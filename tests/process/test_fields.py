"""The field types that the settings of both programs share."""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from process.fields import (
    FiniteSeconds,
    Fps,
    GrpcAddress,
    HttpAddress,
    LogFormat,
    LogLevel,
    OptionalGrpcAddress,
    Seconds,
)
from sidecar.__main__ import main as sidecar_main
from worker.__main__ import main as worker_main

ACCEPTED = [
    (Fps, "0", 0.0),
    (Fps, "0.25", 0.25),
    (Fps, "inf", math.inf),
    (Seconds, "1e-3", 0.001),
    (Seconds, "inf", math.inf),
    (FiniteSeconds, "0", 0.0),
    (FiniteSeconds, "3.5", 3.5),
    (GrpcAddress, "127.0.0.1:50051", "127.0.0.1:50051"),
    (GrpcAddress, "unix:/run/fps.sock", "unix:/run/fps.sock"),
    (OptionalGrpcAddress, "", ""),
    (OptionalGrpcAddress, ":50052", ":50052"),
    (HttpAddress, "", ""),
    (HttpAddress, "[::1]:9464", "[::1]:9464"),
    (LogLevel, "debug", "debug"),
    (HttpAddress, "None", ""),
    (LogLevel, "WARNING", "warning"),
    (LogFormat, "json", "json"),
    (LogFormat, "JSON", "json"),
]

REJECTED = [
    (Fps, "-1", "expected frames per second: 0 or more, or inf"),
    (Fps, "nan", "expected frames per second: 0 or more, or inf"),
    (Fps, "fast", "valid number"),
    (Seconds, "0", "expected seconds: more than 0, or inf"),
    (Seconds, "nan", "expected seconds: more than 0, or inf"),
    (FiniteSeconds, "-1", "expected seconds: 0 or more, not infinite"),
    (FiniteSeconds, "inf", "expected seconds: 0 or more, not infinite"),
    (FiniteSeconds, "nan", "expected seconds: 0 or more, not infinite"),
    (GrpcAddress, "", "expected HOST:PORT"),
    (GrpcAddress, "unix:fps.sock", "absolute path"),
    (OptionalGrpcAddress, "50052", "expected HOST:PORT"),
    (HttpAddress, "9464", "expected HOST:PORT"),
    (LogLevel, "loud", "'debug', 'info', 'warning' or 'error'"),
    (LogFormat, "xml", "'text' or 'json'"),
]


@pytest.mark.parametrize(("field", "text", "value"), ACCEPTED)
def test_valid_texts_become_values(field: Any, text: str, value: object) -> None:
    """Each type accepts the whole range that it documents."""
    assert TypeAdapter(field).validate_python(text) == value


@pytest.mark.parametrize(("field", "text", "words"), REJECTED)
def test_invalid_texts_get_a_reason(field: Any, text: str, words: str) -> None:
    """The reason says what was expected."""
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(field).validate_python(text)
    assert words in raised.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("flag", "text"), [("--fps", "nan"), ("--fps", "fast"), ("--http", "9464"), ("--log-level", "x"), ("--grace", "-1")]
)
def test_both_programs_report_a_mistake_alike(capsys: pytest.CaptureFixture[str], flag: str, text: str) -> None:
    """The same wrong value of the same flag gets the same error from the sidecar and the worker."""
    errors = []
    for program, main, command in (("fps-sidecar", sidecar_main, []), ("hand-counter run", worker_main, ["run"])):
        with pytest.raises(SystemExit):
            main([*command, flag, text])
        errors.append(capsys.readouterr().err.replace(program, "PROGRAM"))
    assert errors[0] == errors[1]
    assert flag in errors[0]


def test_both_programs_warn_of_unknown_variables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A misspelt variable is logged by its name with the nearest one; variables of other commands are known."""
    monkeypatch.setenv("SIDECAR_FSP", "secret")
    monkeypatch.setenv("WORKER_LOG_LEVL", "secret")
    monkeypatch.setenv("WORKER_STREAM_NAME", "cam1")  # of publish
    monkeypatch.setenv("WORKER_THREADS", "1")  # of run
    sidecar_main(["--check", "--redis-url", "redis://127.0.0.1:1"])
    worker_main(["detect", str(tmp_path / "missing.jpg")])
    lines = [line for line in capsys.readouterr().err.splitlines() if "no setting has" in line]
    assert [line.partition("variable ")[2] for line in lines] == [
        "variable=SIDECAR_FSP did_you_mean=SIDECAR_FPS",
        "variable=WORKER_LOG_LEVL did_you_mean=WORKER_LOG_LEVEL",
    ]
