"""The command fps-sidecar --check: reads all limits in Redis once, also patterns and boosts, and reports the invalid ones."""

import contextlib
import sys
import unicodedata
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any, Final

from handcounter.pacing.limits import (
    MAX_BOOSTS,
    MAX_PATTERNS,
    WILDCARD_FIELD,
    boosts_key,
    parse_boost,
    parse_fps,
    patterns_key,
    show,
)
from handcounter.pacing.patterns import is_pattern, pattern_error
from handcounter.pacing.schedule import stream_name_error
from process.output import Output
from process.redis_access import RedisAccess
from process.redis_url import RedisUrl
from sidecar.connections.errors import RedisServerError
from sidecar.connections.servers import RedisServers
from sidecar.connections.wire import Wire
from sidecar.limits.small_table import SmallTable

FINE: Final = 0
FAILED: Final = 1

ANSWER_S: Final = 5.0
"""How long Redis may take to answer a command."""

_FIELDS_PER_CALL: Final = 1000


async def check(
    url: RedisUrl, access: RedisAccess, config_key: str, default_fps: float, streams: Collection[str] | None = None
) -> int:
    """Prints each field of the hash that sets no limit, each that may be a mistake, and a summary.

    A field may be a mistake if its name looks like another one, or if no stream has it.

    Args:
        url: The URL of Redis.
        access: What the connection needs besides the URL.
        config_key: The key of the hash.
        default_fps: The limit of streams that the hash doesn't mention, frames per second.
        streams: The streams of a running sidecar; None if there is none.

    Returns:
        The exit code: 0 if every field sets a limit; 1 if one doesn't, or if Redis can't be read.
    """
    problems: dict[bytes, str] = {}
    fields: set[bytes] = set()  # HSCAN may return a field twice
    wildcard: float | None = None
    servers = RedisServers(url, access)
    key = config_key
    try:
        async with _reading(servers, key) as pages:
            async for field, value in pages:
                fields.add(field)
                if problem := field_error(field, value):
                    problems[field] = problem
                elif field.decode() == WILDCARD_FIELD:
                    wildcard = parse_fps(value)
        key = patterns_key(config_key)
        async with _reading(servers, key) as pages:
            patterns = {field: value async for field, value in pages}
        key = boosts_key(config_key)
        async with _reading(servers, key) as pages:
            boosts = {field: value async for field, value in pages}
    except RedisServerError as error:
        hint = error.fields().get("hint", "")
        Output(sys.stderr).line(f"fps-sidecar: can't read {key} at {url.shown}: {error}{f' ({hint})' if hint else ''}")
        return FAILED
    pattern_problems, boost_problems = pattern_errors(patterns), boost_errors(boosts)
    output = Output(sys.stdout)
    for problem in (*(problem for _, problem in sorted(problems.items())), *pattern_problems, *boost_problems):
        output.line(problem)
    named = [field.decode() for field in fields - problems.keys()]
    for doubt in doubts([show(field) for field in fields], named, streams, patterns_key(config_key)):
        output.line(doubt)
    others = f"--fps {default_fps:g}" if wildcard is None else f"{wildcard:g} ({WILDCARD_FIELD})"
    layered = [*pattern_problems, *boost_problems]
    layers = (
        f"{len(patterns)} patterns and {len(boosts)} boosts, {len(layered)} ignored; " if patterns or boosts else ""
    )
    output.line(
        f"{config_key} at {url.shown}: {len(fields)} fields, {len(problems)} invalid; {layers}all other streams: {others}"
    )
    if output.problem:
        Output(sys.stderr).line(f"fps-sidecar: the report can't be written to standard output: {output.problem}")
    return FAILED if problems or layered or output.problem else FINE


def field_error(field: bytes, value: bytes) -> str | None:
    """Returns why one field of the hash sets no limit; None if it sets one."""
    try:
        name_error = stream_name_error(field.decode())
    except UnicodeDecodeError:
        name_error = "stream_name must be UTF-8"
    if name_error:
        return f"no stream can have the name {show(field)!r}: {name_error}"
    if parse_fps(value) is None:
        return f"{show(field)!r}: {show(value)!r} isn't a valid fps, so it is ignored"
    return None


def pattern_errors(fields: Mapping[bytes, bytes]) -> list[str]:
    """Returns a line for each pattern that sets no limit, or not the one that it should set."""
    return _small_errors(SmallTable(parse_fps, pattern_error, MAX_PATTERNS), fields, "pattern", "fps")


def boost_errors(fields: Mapping[bytes, bytes]) -> list[str]:
    """Returns a line for each boost that sets no limit, or not the one that it should set."""
    return _small_errors(
        SmallTable(parse_boost, stream_name_error, MAX_BOOSTS), fields, "boost of", "FPS and UNIX SECONDS"
    )


def _small_errors(table: SmallTable[Any], fields: Mapping[bytes, bytes], what: str, expected: str) -> list[str]:
    table.store(fields)
    invalid = (
        f"{what} {name!r}: {value!r} isn't a valid {expected}, so it is ignored"
        for name, value in table.invalid.items()
    )
    return [*invalid, *(f"{what} {name!r} is refused: {why}" for name, why in table.refused.items())]


def doubts(
    shown: Collection[str], named: Iterable[str], streams: Collection[str] | None, patterns: str = "another hash"
) -> list[str]:
    """Returns a line for each group of names that look alike, each field that looks like a pattern or that no stream has.

    Args:
        shown: All fields, as text.
        named: The fields that set a limit.
        streams: The streams of a running sidecar; None if there is none.
        patterns: The key of the hash of patterns.
    """
    alike: dict[str, set[str]] = {}
    for name in {*shown, *(streams or ())}:
        alike.setdefault(_look(name), set()).add(name)
    lines = [
        f"names that look alike, but are different streams: {', '.join(map(repr, sorted(group)))}"
        for group in alike.values()
        if len(group) > 1 and not group.isdisjoint(shown)
    ]
    lines += [
        f"{name!r} looks like a pattern, but is the field of the one stream of this name; patterns belong in {patterns}"
        for name in shown
        if name != WILDCARD_FIELD and is_pattern(name)
    ]
    if streams is not None:
        unused = {name for name in named if name not in streams} - {WILDCARD_FIELD}
        lines += [f"{name!r}: no stream of the running sidecar has this name" for name in unused]
    return sorted(lines)


def _look(name: str) -> str:
    """Returns what a name looks like: without blanks, capitals, and the difference between é and e with an accent."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


@contextlib.asynccontextmanager
async def _reading(servers: RedisServers, key: str) -> AsyncIterator[AsyncIterator[tuple[bytes, bytes]]]:
    """Yields all fields and values of a hash, read over a connection to the server that holds it."""
    wire = await servers.connect(await servers.holder(key))
    try:
        yield _fields(wire, key)
    finally:
        await wire.close()


async def _fields(wire: Wire, config_key: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yields all fields and values of the hash, a page at a time."""
    cursor: Any = "0"
    while True:
        cursor, pairs = await wire.call("HSCAN", config_key, cursor, "COUNT", _FIELDS_PER_CALL, timeout_s=ANSWER_S)
        for index in range(0, len(pairs), 2):
            yield pairs[index], pairs[index + 1]
        if cursor == b"0":
            return
