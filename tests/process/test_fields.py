"""The field types that the settings of both programs share."""

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_settings import BaseSettings

from process.fields import (
    FiniteSeconds,
    Fps,
    GrpcAddress,
    HttpAddress,
    LogFormat,
    LogLevel,
    Number,
    OptionalGrpcAddress,
    Seconds,
)
from sidecar.__main__ import main as sidecar_main
from sidecar.settings import SidecarSettings
from worker.__main__ import main as worker_main
from worker.demo.settings import DemoSettings
from worker.detect_settings import DetectSettings, ModelsFetchSettings
from worker.publish.settings import PublishSettings
from worker.run_settings import RunSettings

ACCEPTED = [
    (Fps, "0", 0.0),
    (Fps, "0.25", 0.25),
    (Fps, "0e-400", 0.0),
    (Fps, "5e-324", 5e-324),
    (Fps, 0.5, 0.5),
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
    (Fps, "nan", "expected a decimal number"),
    (Fps, "-inf", "expected frames per second: 0 or more, or inf"),
    (Fps, "fast", "expected a decimal number"),
    (Fps, "1e-400", "expected a decimal number that a double can hold"),
    (Fps, "1e400", "expected a decimal number that a double can hold"),
    (Seconds, "1e400", "expected a decimal number that a double can hold"),
    (FiniteSeconds, "1e-400", "expected a decimal number that a double can hold"),
    (Number, "1_000", "expected a decimal number that a double can hold"),
    (Seconds, "0", "expected seconds: more than 0, or inf"),
    (Seconds, "nan", "expected a decimal number"),
    (FiniteSeconds, "-1", "expected seconds: 0 or more, not infinite"),
    (FiniteSeconds, "inf", "expected seconds: 0 or more, not infinite"),
    (FiniteSeconds, "nan", "expected a decimal number"),
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
    "settings_class", [SidecarSettings, RunSettings, PublishSettings, DetectSettings, DemoSettings, ModelsFetchSettings]
)
def test_no_flag_takes_a_number_for_another_one(settings_class: type[BaseSettings]) -> None:
    """Every flag that is a number refuses 1e-400, which Python reads as 0, and 1e400, which it reads as infinity."""
    fields = settings_class.model_fields.items()
    numbers = [name for name, field in fields if re.search(r"\bfloat\b", str(field.annotation))]
    for name, text in itertools.product(numbers, ("1e-400", "1e400", "1_0")):
        with pytest.raises(ValidationError) as raised:
            settings_class(**{name: text})
        (error,) = (each for each in raised.value.errors() if each["loc"][0] == name)
        assert "expected a decimal number" in error["msg"]
    assert numbers or settings_class is ModelsFetchSettings


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
