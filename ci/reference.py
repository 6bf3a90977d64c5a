"""Writes the reference pages that are generated from the code.

    python ci/reference.py docs/reference      (make reference)

A test compares the pages with what the code says now.
"""

import importlib
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

import console.control.keys
import sidecar.fleet.claims
import worker.queue.keys
from console.fpsctl.app import app
from process.settings import Flag, described
from sidecar.settings import SidecarSettings
from worker.__main__ import COMMANDS
from worker.hamer.verdicts import Verdict
from worker.hands.outputs import OUTPUTS, VERTICES, WRITTEN, Output

PROTO = "handcounter/ratelimit/v1/rate_limit.proto"
ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by `make reference`. -->"
KEY = re.compile(r"^    (\S+)  +(\S.*)$")
CONTINUED = re.compile(r"^ {20,}(\S.*)$")
MARKS = re.compile(r"\*|(?<!\w)_|_(?!\w)")
OF_EVERY_PROGRAM = ("help", "version", "install_completion", "show_completion")
METHOD, FIELD, VALUE = 2, 2, 2
"""Numbers of fields in descriptor.proto, of which the places of comments consist."""
MESSAGES, ENUMS, SERVICES = 4, 5, 6


def escaped(text: str) -> str:
    """Returns a text on one line, with what Markdown and HTML would read escaped."""
    return MARKS.sub(r"\\\g<0>", " ".join(text.split()).replace("<", "&lt;"))


def cell(text: str) -> str:
    """Returns a text as a cell of a table."""
    return escaped(text).replace("|", "\\|")


def code(text: str) -> str:
    """Returns a text as code in a cell, empty if it is empty."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield "| " + " | ".join(titles) + " |"
    yield "| " + " | ".join("---" for _ in titles) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def prose(text: str) -> str:
    """Returns the paragraphs of a comment or docstring as Markdown, up to its examples."""
    text = re.split(r"\x08|\f|\n\s*examples:", text)[0]
    return "\n\n".join(map(escaped, text.strip().split("\n\n")))


def flag_table(flags: Iterable[Flag]) -> Iterator[str]:
    """Yields the table of a program's or command's flags."""
    rows = [
        (code(f"{each.name} {each.value}".strip()), code(each.variable), code(each.default), cell(each.meaning))
        for each in flags
    ]
    yield from table(("flag", "variable", "default", "meaning"), rows)


def sidecar_page() -> Iterator[str]:
    """Yields the lines about fps-sidecar."""
    yield from ("# fps-sidecar", "", NOTE, "", SidecarSettings.__doc__ or "", "")
    yield from ("A flag wins over its variable. A flag that may be repeated is a variable with commas.", "")
    yield from flag_table(described(SidecarSettings))


def hand_counter_page() -> Iterator[str]:
    """Yields the lines about hand-counter, one section for each command."""
    yield from ("# hand-counter", "", NOTE, "")
    yield from ("A flag wins over its variable. A flag that may be repeated is a variable with commas.", "")
    for command in COMMANDS:
        module, _, name = command.settings.partition(":")
        settings_class = getattr(importlib.import_module(module), name)
        yield from (f"## hand-counter {' '.join(command.words)}", "", str(settings_class.__doc__), "")
        yield from flag_table(described(settings_class))


def parameter(each: Any) -> Flag:
    """Returns what the reference says about a parameter of fpsctl, which typer describes."""
    if each.param_type_name == "argument":
        name = each.metavar or each.name.upper()
        shown = (name if each.required else f"[{name}]") + ("..." if each.nargs != 1 else "")
        return Flag(shown, "", each.envvar or "", "", each.help or "")
    default = "" if each.is_flag or each.default in (None, "", ()) else str(each.default)
    value = "" if each.is_flag else each.metavar or "TEXT"
    return Flag(", ".join((*each.opts, *each.secondary_opts)), value, each.envvar or "", default, each.help or "")


def fpsctl_page() -> Iterator[str]:
    """Yields the lines about fpsctl: its flags, and one section for each command."""
    program: Any = typer.main.get_command(app)
    yield from (
        "# fpsctl",
        "",
        NOTE,
        "",
        "What the commands do: [fpsctl](../fpsctl.md). Before or after any command:",
        "",
    )
    yield from flag_table(parameter(each) for each in program.params if each.name not in OF_EVERY_PROGRAM)
    for name, command in program.commands.items():
        yield from (f"## fpsctl {name}", "", prose(command.help or command.short_help), "")
        own = [each for each in command.params if each.name not in OF_EVERY_PROGRAM]
        if own:
            yield from flag_table(map(parameter, own))


def contract() -> tuple[descriptor_pb2.FileDescriptorProto, dict[tuple[int, ...], str]]:
    """Returns the contract, and the comment at each place of it."""
    with tempfile.NamedTemporaryFile() as file:
        arguments = (
            "protoc",
            f"-I{ROOT / 'proto'}",
            "--include_source_info",
            f"--descriptor_set_out={file.name}",
            PROTO,
        )
        if protoc.main(arguments):
            sys.exit("protoc can't read the contract")
        (described_file,) = descriptor_pb2.FileDescriptorSet.FromString(Path(file.name).read_bytes()).file
    comments = {tuple(place.path): place.leading_comments for place in described_file.source_code_info.location}
    return described_file, comments


def type_name(field: descriptor_pb2.FieldDescriptorProto) -> str:
    """Returns the type of a field as the contract writes it."""
    kind = descriptor_pb2.FieldDescriptorProto
    name = field.type_name.rpartition(".")[2] or kind.Type.Name(field.type).removeprefix("TYPE_").lower()
    repeated = field.label == kind.LABEL_REPEATED
    return f"repeated {name}" if repeated else f"optional {name}" if field.proto3_optional else name


def rpc_page() -> Iterator[str]:
    """Yields the lines about the contract: its RPCs, messages and enums."""
    file, comments = contract()
    yield from ("# RPCs", "", NOTE, "")
    yield from (f"The service `{file.package}.{file.service[0].name}`, from `proto/{PROTO}`.", "")
    for service_number, service in enumerate(file.service):
        yield from (prose(comments[SERVICES, service_number]), "")
        for number, method in enumerate(service.method):
            asked = ("stream " * method.client_streaming) + method.input_type.rpartition(".")[2]
            answered = ("stream " * method.server_streaming) + method.output_type.rpartition(".")[2]
            yield from (f"## {method.name}", "", f"`rpc {method.name}({asked}) returns ({answered})`", "")
            yield from (prose(comments[SERVICES, service_number, METHOD, number]), "")
    for number, message in enumerate(file.message_type):
        yield from (f"## {message.name}", "", prose(comments.get((MESSAGES, number), "")), "")
        rows = [
            (code(field.name), code(type_name(field)), cell(comments.get((MESSAGES, number, FIELD, place), "")))
            for place, field in enumerate(message.field)
        ]
        if rows:
            yield from table(("field", "type", "meaning"), rows)
    for number, enum in enumerate(file.enum_type):
        yield from (f"## {enum.name}", "", prose(comments.get((ENUMS, number), "")), "")
        rows = [
            (code(value.name), str(value.number), cell(comments.get((ENUMS, number, VALUE, place), "")))
            for place, value in enumerate(enum.value)
        ]
        yield from table(("value", "number", "meaning"), rows)


def listed_keys(docstring: str) -> list[tuple[str, str]]:
    """Returns the keys in the docstring of a module, with what each holds."""
    found: list[tuple[str, str]] = []
    for line in docstring.splitlines():
        if match := KEY.match(line):
            found.append((match[1], match[2]))
        elif found and (match := CONTINUED.match(line)):
            found[-1] = (found[-1][0], f"{found[-1][1]} {match[1]}")
    return found


def keys_page() -> Iterator[str]:
    """Yields the lines about the keys in Redis."""
    yield from ("# Keys in Redis", "", NOTE, "", "Who may use which: [permissions in Redis](../redis-acl.md).", "")
    sections = (
        (
            "Limits",
            console.control.keys,
            "`--config-key` names the first; see [limits, live](../operations.md#limits-live).",
        ),
        (
            "The queue",
            worker.queue.keys,
            "`--prefix` is the part in braces; each [partition](../queue.md#partitions) has its own. See "
            "[the queue](../queue.md), [the results](../results.md) and [cameras](../cameras.md#the-state-of-a-camera).",
        ),
        ("Fleet scope", sidecar.fleet.claims, "Only with `--scope fleet`, see [fleet scope](../fleet.md)."),
    )
    for title, module, text in sections:
        yield from (f"## {title}", "", text, "")
        keys = listed_keys(module.__doc__ or "")
        yield from table(("key", "what it holds"), [(code(key), cell(text)) for key, text in keys])


def hands_page() -> Iterator[str]:
    """Yields the lines about what is known of a hand."""
    yield from ("# A hand", "", NOTE, "")
    yield from (
        "What is known of each hand of a picture, from the table in `worker/hands/outputs.py`.",
        "[The results](../results.md) have the other fields, and [HaMeR](../hamer.md) explains its values.",
        "",
        "## In results",
        "",
    )
    rows = [
        (
            code(output.field),
            shape_of(output),
            output.unit,
            str(output.decimals or ""),
            output.source,
            cell(output.meaning),
        )
        for output in WRITTEN
    ]
    yield from table(("field", "shape", "unit", "decimals", "from", "meaning"), rows)
    yield from ("## In the worker alone", "", "HaMeR's other values, which decide whether a hand is dropped.", "")
    rest = [output for output in OUTPUTS if output not in WRITTEN]
    rows = [(code(output.name), shape_of(output), output.unit, output.source, cell(output.meaning)) for output in rest]
    yield from table(("name", "shape", "unit", "from", "meaning"), rows)
    yield from ("## Verdicts", "", "HaMeR's verdict on each detection, in this order. All but the first drop it.", "")
    yield from ("Metrics count them, and `hand-counter detect --explain` prints them.", "")
    yield from table(("verdict", "reason"), [(code(verdict), cell(verdict.reason)) for verdict in Verdict])


def shape_of(output: Output) -> str:
    """Returns the shape of a value of one hand."""
    return " x ".join("vertices" if length == VERTICES else str(length) for length in output.shape)


PAGES = {
    "fps-sidecar.md": sidecar_page,
    "hand-counter.md": hand_counter_page,
    "fpsctl.md": fpsctl_page,
    "rpcs.md": rpc_page,
    "redis-keys.md": keys_page,
    "hands.md": hands_page,
}


def pages() -> dict[str, str]:
    """Returns the text of each page by its file name."""
    return {name: "\n".join(lines()).rstrip() + "\n" for name, lines in PAGES.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for page_name, text in pages().items():
        (folder / page_name).write_text(text)
