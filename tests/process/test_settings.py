"""Settings from flags and environment variables."""

import enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from process.address import split_host_port
from process.settings import (
    Parser,
    Positional,
    ProgramSettings,
    Words,
    add_flags,
    parse,
    settings_from,
    unknown_variables,
)


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class ToySettings(ProgramSettings):
    """Does toy work."""

    model_config = SettingsConfigDict(env_prefix="TOY_")

    fps: float = Field(1.0, ge=0, description="frames per second, up to 100% of them")
    listen: Words = Field(["127.0.0.1:1"], description="where; may be repeated")
    dry_run: bool = Field(False, description="change nothing")
    colour: Colour = Field(Colour.RED, description="the toy's colour")
    mode: Literal["fast", "slow"] = Field("fast", description="how to work")
    where: Path | None = Field(None, description="a folder")


class ToyCommand(ProgramSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_")

    sources: Annotated[list[str], Positional] = Field(description="what to read")
    name: str = Field(description="a name")


def read(*argv):
    return parse(ToySettings, argv, prog="toy", epilog="examples:\n  toy --fps 2", version="1.2.3")


def test_flags_win_over_the_environment_and_that_over_defaults(monkeypatch):
    """Each field comes from its flag, else its variable, else its default."""
    monkeypatch.setenv("TOY_FPS", "5")
    monkeypatch.setenv("TOY_MODE", "slow")
    settings = read("--fps", "2", "--where", "/tmp", "--dry-run")
    assert (settings.fps, settings.mode, settings.where, settings.dry_run) == (2.0, "slow", Path("/tmp"), True)
    assert settings.colour is Colour.RED


def test_a_variable_may_be_in_small_letters(monkeypatch):
    """The case of its name doesn't matter."""
    monkeypatch.setenv("toy_fps", "5")
    assert read().fps == 5.0


def test_a_list_is_a_repeated_flag_or_a_variable_with_commas(monkeypatch):
    """Both ways of giving a list work, and the flag replaces the variable."""
    monkeypatch.setenv("TOY_LISTEN", "a:1, unix:/b")
    assert read().listen == ["a:1", "unix:/b"]
    assert read("--listen", "c:2", "--listen", "d:3").listen == ["c:2", "d:3"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--fps", "abc"], ["--fps: must be a valid number, got 'abc'"]),
        (["--fps", "-1"], ["--fps", "greater than or equal to 0", "'-1'"]),
        (["--colour", "green"], ["--colour", "must be 'red' or 'blue'", "'green'"]),
        (["--fsp", "1"], ["--fsp"]),
        (["--fp", "1"], ["--fp"]),
        (["stray"], ["stray"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(argv, words, capsys):
    """A wrong flag or value ends the process with exit code 2 and one line that names it."""
    with pytest.raises(SystemExit) as stopped:
        read(*argv)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert all(word in message for word in ["toy:", *words]), message


def test_an_invalid_value_is_shown_once_and_without_its_password(capsys):
    """The value follows the reason, unless the reason contains it already; what looks like a password is masked."""

    class UrlSettings(ProgramSettings):
        url: Annotated[str, AfterValidator(split_host_port)] = Field("h:1", description="a place")
        number: int = Field(1, description="a number")

    for argv in (["--url", "nonsense"], ["--number", "redis://me:secret@host"]):
        with pytest.raises(SystemExit):
            parse(UrlSettings, argv, prog="toy", epilog="", version="1")
    first, second = capsys.readouterr().err.splitlines()
    assert first.count("nonsense") == 1
    assert "got 'redis://me:***@host'" in second


def test_a_bad_environment_variable_is_named(monkeypatch, capsys):
    """An error in an environment variable names the variable, not a flag that wasn't given."""
    monkeypatch.setenv("TOY_FPS", "fast")
    with pytest.raises(SystemExit):
        read()
    assert "TOY_FPS: " in capsys.readouterr().err


def test_help_shows_flags_variables_defaults_and_examples(capsys, monkeypatch):
    """The help names every flag with its variable and default, and ends with the examples."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        read("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for words in ("Does toy work.", "--dry-run", "TOY_FPS, default 1.0", "100% of them", "red|blue", "toy --fps 2"):
        assert words in text


def test_version(capsys):
    """--version prints the program and its version."""
    with pytest.raises(SystemExit):
        read("--version")
    assert capsys.readouterr().out == "toy 1.2.3\n"


def test_positional_fields_and_required_flags(capsys):
    """A positional field takes arguments without a flag; a missing required flag is named."""
    parser = Parser(prog="toy copy")
    add_flags(parser, ToyCommand)
    settings = settings_from(ToyCommand, parser.parse_args(["a", "b", "--name", "x"]), parser)
    assert (settings.sources, settings.name) == (["a", "b"], "x")
    with pytest.raises(SystemExit):
        settings_from(ToyCommand, parser.parse_args(["a"]), parser)
    assert "--name is required" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", " ", "\n", "\ufeff", "\r\n"])
def test_an_empty_variable_is_an_unset_one(monkeypatch, text):
    """Whatever the setting's type, an empty variable leaves the default."""
    for name in ToySettings.model_fields:
        monkeypatch.setenv(f"TOY_{name.upper()}", text)
    assert read() == ToySettings.model_construct()


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "\ufeff{}", " {}\t", "\ufeff{} \r"])
def test_text_is_stripped_alike_everywhere(monkeypatch, around):
    """What an editor or a file leaves around a value isn't part of it, in variables and in flags, of any type."""
    given = {"fps": "5", "colour": "blue", "mode": "slow", "where": "/x", "dry_run": "true", "listen": "a:1"}
    for name, text in given.items():
        monkeypatch.setenv(f"TOY_{name.upper()}", around.format(text))
    expected = ToySettings(fps=5, colour=Colour.BLUE, mode="slow", where=Path("/x"), dry_run=True, listen=["a:1"])
    assert read() == expected
    flags = [
        word
        for name in ("fps", "colour", "mode", "where", "listen")
        for word in (f"--{name}", around.format(given[name]))
    ]
    for name in given:
        monkeypatch.delenv(f"TOY_{name.upper()}")
    assert read("--dry-run", *flags) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--fsp", "3"), "toy: unknown flag --fsp, did you mean --fps? (see toy --help)"),
        (("--modes=secret",), "toy: unknown flag --modes, did you mean --mode? (see toy --help)"),
        (("--zzzzzzzz",), "toy: unknown flag --zzzzzzzz (see toy --help)"),
    ],
)
def test_an_unknown_flag_is_told_with_the_nearest(capsys, argv, message):
    """The error has the flag without its value, and the most similar one that exists."""
    with pytest.raises(SystemExit) as stopped:
        read(*argv)
    assert (stopped.value.code, capsys.readouterr().err) == (2, message + "\n")


def test_unknown_variables():
    """Variables of the program that no setting has come with the nearest; those of Kubernetes and of others don't."""
    environ = dict.fromkeys(
        ("TOY_FPSS", "TOY_QQQQQQ", "TOY_FPS", "toy_mode", "TOY_NAME", "TOYS", "PATH", "TOY_PORT", "TOY_SERVICE_HOST"),
        "x",
    ) | dict.fromkeys(("TOY_SERVICE_PORT_GRPC", "TOY_PORT_50051_TCP_ADDR"), "x")
    assert unknown_variables([ToySettings, ToyCommand], environ) == {"TOY_FPSS": "TOY_FPS", "TOY_QQQQQQ": ""}
