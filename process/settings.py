"""Settings as flags and environment variables, from one pydantic-settings class per command.

Each field is a flag (``fps`` is ``--fps``) and an environment variable (the class's ``env_prefix`` and the field's name
in capitals); the flag wins. An empty variable is the same as none, and the blanks, line ends and byte order marks around
a value, which editors and files leave there, are removed. A field's description is its help text. An invalid value ends
the process with exit code 2 and one line on standard error, which names the flag or the variable, and shows the value
unless the field is marked as secret (``json_schema_extra={"secret": True}``).
"""

import argparse
import logging
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NamedTuple, NoReturn, TypeVar

from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource

from process import logs
from process.address import mask_password
from process.log_wish import BLANKS

logger = logging.getLogger(__name__)

WRONG_USAGE = 2
"""Exit code for an unknown flag or an invalid value."""


_KUBERNETES: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Variables that Kubernetes sets in every container for a Service, which may be called worker or sidecar."""


def strip_text(text: str) -> str:
    """Returns a text without the blanks, line ends and byte order marks around it."""
    return text.strip(BLANKS)


class Positional:
    """Marks a field that is a positional argument instead of a flag."""


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Words = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list: a flag that may be repeated, or an environment variable with commas."""

Settings = TypeVar("Settings", bound=BaseSettings)


class ProgramSettings(BaseSettings):
    """The base of all settings: an empty environment variable is the same as none."""

    COMES_FIRST: ClassVar[bool] = False
    """Set by a class whose flags are shown with those of the classes that derive from it, not after them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns where values come from: the flags, then the environment."""
        if isinstance(env_settings, EnvSettingsSource):
            texts = {name: strip_text(text or "") for name, text in env_settings.env_vars.items()}
            env_settings.env_vars = {name: text for name, text in texts.items() if text}
        return init_settings, env_settings


class Flag(NamedTuple):
    """A setting as the reference shows it."""

    name: str
    """The flag; capitals: a positional argument."""
    value: str
    """What stands for its value; empty: it has none."""
    variable: str
    """The environment variable; empty: there is none."""
    default: str
    """Empty: none."""
    meaning: str


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line and whose epilog keeps its line breaks."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns the arguments; ends the process if there is a flag that doesn't exist."""
        given, rest = self.parse_known_args(args, namespace)
        for word in rest:
            flag = word.partition("=")[0]  # the value may be secret
            if flag.startswith("--"):
                self.error(f"unknown flag {flag}{_suggestion(flag, self._option_string_actions)}")
        if rest:
            self.error(f"unrecognized arguments: {' '.join(map(mask_password, rest))}")
        return given

    def error(self, message: str) -> NoReturn:
        """Ends the process with one line and the exit code of wrong usage."""
        if message.startswith("unrecognized arguments:"):  # a URL may hold a password
            message = " ".join("…" if "://" in word or "@" in word else word for word in message.split(" "))
        if logs.in_json():
            about = {"program": self.prog, "error": message, "hint": f"see {self.prog} --help"}
            logger.error("wrong usage", extra=about)
            self.exit(WRONG_USAGE)
        self.exit(WRONG_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_flags(parser: argparse.ArgumentParser, settings_class: type[BaseSettings]) -> None:
    """Adds a flag for each field of the class. Values stay text until :func:`settings_from` validates them."""
    for name in _own_first(settings_class):
        field = settings_class.model_fields[name]
        text = (field.description or "").replace("%", "%%")
        repeatable = _is(field, list)
        if _is_positional(field):
            count = "+" if repeatable else None if field.is_required() else "?"
            parser.add_argument(name, metavar=name.upper(), help=text, nargs=count, default=argparse.SUPPRESS)
            continue
        text = f"{text} [{_variable(settings_class, name)}{_default(field)}]"
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": text}
        if _is(field, bool):
            options["action"] = argparse.BooleanOptionalAction if field.default else "store_true"
        else:
            options["metavar"] = _metavar(field)
            options["action"] = "append" if repeatable else "store"
        parser.add_argument(_flag(settings_class, name), **options)


def described(settings_class: type[BaseSettings]) -> list[Flag]:
    """Returns what the reference says about the settings of a class, in the order of its help text."""
    flags = []
    for name in _own_first(settings_class):
        field = settings_class.model_fields[name]
        switch, positional = _is(field, bool), _is_positional(field)
        default = "by the machine" if field.default_factory else _default(field).removeprefix(", default ")
        flag = _flag(settings_class, name)
        flags.append(
            Flag(
                f"--no-{flag.removeprefix('--')}" if switch and field.default else flag,
                "" if switch or positional else _metavar(field),
                "" if positional and field.is_required() else _variable(settings_class, name),
                "" if switch else default,
                field.description or "",
            )
        )
    return flags


def _stripped(value: Any) -> Any:
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    return strip_text(value) if isinstance(value, str) else value


def _suggestion(word: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence about an unknown word: the most similar known one, if one is similar."""
    similar = _most_similar(word, known)
    return f", did you mean {similar}?" if similar else ""


def _most_similar(word: str, known: Iterable[str]) -> str:
    """Returns the known word that is most similar; empty if none is similar."""
    import difflib  # only for mistakes, so that other starts don't wait for it

    return next(iter(difflib.get_close_matches(word, known, 1)), "")


def _own_first(settings_class: type[BaseSettings]) -> list[str]:
    """Returns the names of the fields: first the class's own and those that come with them, then those of its base classes."""
    own: set[str] = set()
    for each in settings_class.__mro__:
        if each is settings_class or vars(each).get("COMES_FIRST"):
            own |= vars(each).get("__annotations__", {}).keys()
    return sorted(settings_class.model_fields, key=lambda name: name not in own)


def settings_from(
    settings_class: type[Settings], arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> Settings:
    """Validates the parsed flags together with the environment.

    Raises:
        SystemExit: A value is invalid; standard error has one line about it.
    """
    given = {
        name: value if _is_positional(field) else _stripped(value)
        for name, value in vars(arguments).items()
        if (field := settings_class.model_fields.get(name))
    }
    try:
        return settings_class(**given)
    except ValidationError as error:
        parser.error("; ".join(_sentences(settings_class, error, given)))


def unknown_variables(settings_classes: Iterable[type[BaseSettings]], environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables that begin like those of the classes, but that no setting has.

    Args:
        settings_classes: All classes with the same ``env_prefix``.
        environ: The environment.

    Returns:
        The name of each such variable, and the most similar name of a setting's, empty if none is similar.
    """
    known = {_variable(each, name) for each in settings_classes for name in each.model_fields}
    prefixes = tuple({str(each.model_config.get("env_prefix", "")) for each in settings_classes})
    return {
        name: _most_similar(name.upper(), known)
        for name in sorted(environ)
        if name.upper().startswith(prefixes) and name.upper() not in known and not _KUBERNETES.fullmatch(name)
    }


def parse(
    settings_class: type[Settings], argv: Sequence[str] | None, *, prog: str, epilog: str, version: str
) -> Settings:
    """Reads the settings of a program without subcommands.

    Args:
        settings_class: Its docstring is the beginning of the help text.
        argv: Arguments; None for those of the process.
        prog: Name of the program.
        epilog: End of the help text.
        version: Shown by --version.

    Raises:
        SystemExit: A flag or value is wrong, or --help or --version was given.
    """
    parser = Parser(prog=prog, description=settings_class.__doc__, epilog=epilog)
    parser.add_argument("--version", action="version", version=f"{prog} {version}")
    add_flags(parser, settings_class)
    return settings_from(settings_class, parser.parse_args(argv), parser)


def _flag(settings_class: type[BaseSettings], name: str) -> str:
    """Returns the flag: the field's name, unless its schema has another one, as for names that pydantic reserves."""
    if _is_positional(settings_class.model_fields[name]):
        return name.upper()
    extra = settings_class.model_fields[name].json_schema_extra
    given = extra.get("flag") if isinstance(extra, dict) else None
    return str(given) if given else "--" + name.replace("_", "-")


def _is_positional(field: FieldInfo) -> bool:
    return any(isinstance(mark, Positional) or mark is Positional for mark in field.metadata)


def _variable(settings_class: type[BaseSettings], name: str) -> str:
    return (settings_class.model_config.get("env_prefix", "") + name).upper()


def _is(field: FieldInfo, kind: type) -> bool:
    return any(annotation is kind or typing.get_origin(annotation) is kind for annotation in _members(field.annotation))


def _members(annotation: object) -> Iterable[object]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (annotation,)


def _metavar(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "metavar" in extra:
        return str(extra["metavar"])
    for annotation in _members(field.annotation):
        if isinstance(annotation, type) and issubclass(annotation, os.PathLike):
            return "PATH"
        if typing.get_origin(annotation) is typing.Literal:
            return "|".join(map(str, typing.get_args(annotation)))
        if isinstance(annotation, type) and hasattr(annotation, "__members__"):
            return "|".join(str(member.value) for member in annotation)  # type: ignore[attr-defined]
    return "N" if _is(field, int) else "X" if _is(field, float) else "TEXT"


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default == "" or default is False or default == [] or field.is_required():
        return ""
    shown = ",".join(map(str, default)) if isinstance(default, list) else getattr(default, "value", default)
    return f", default {shown}"


def _sentences(settings_class: type[BaseSettings], error: ValidationError, given: dict[str, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        place = str(problem["loc"][0]) if problem["loc"] else ""
        message = _plain(problem["msg"])
        if not place:
            yield message
            continue
        source = _flag(settings_class, place) if place in given else _variable(settings_class, place)
        if problem["type"] == "missing":
            yield f"{_flag(settings_class, place)} is required"
        else:
            secret = _is_secret(settings_class.model_fields[place])
            got = "" if secret or ", got " in message else f", got {mask_password(repr(problem['input']))}"
            yield f"{source}: {message}{got}"


def _plain(message: str) -> str:
    """Returns pydantic's message as the second half of a sentence that begins with the flag."""
    message = message.removeprefix("Value error, ").partition(", unable to parse")[0]
    message = message.replace("Input should be", "must be", 1)
    return message[:1].lower() + message[1:]


def _is_secret(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("secret"))
