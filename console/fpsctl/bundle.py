"""A support bundle: what somebody who helps needs to see, with all secrets masked."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

MASK: Final = "***"
_SECRET_NAME: Final = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY$|AUTH", re.IGNORECASE)
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*://)(\S*?)(?=,[a-z][a-z0-9+.-]*://|\s|$)", re.IGNORECASE)
"""A URL in a text, or one of several with commas between."""
_REDIS: Final = re.compile(r"(rediss?|redis\+\w+|unix)://", re.IGNORECASE)
_HOST: Final = re.compile(r"[^/?#]*")
_LEAST_SECRET: Final = 3
"""Shorter ones would mask half of the text; they are masked where they are named."""


def masked(text: str, secrets: Iterable[str]) -> str:
    """Returns a text without these secrets, and without what may be secret in any URL in it.

    Of a URL that is only the login, up to its last @, if Redis is there. Of others, those of cameras and sinks, the path
    and the query as well: some have a password or a token there.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, MASK)
    return _URL.sub(_masked_url, text)


def _masked_url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user if colon else ''}{colon}{MASK}@" if at else ""
    if _REDIS.fullmatch(scheme):
        return scheme + shown + place
    host = _HOST.match(place)
    return scheme + shown + (place if host is None or host.group() == place else f"{host.group()}/…")


def environment(environ: Mapping[str, str], prefixes: tuple[str, ...]) -> dict[str, str]:
    """Returns the variables of our programs, with the values of secret ones masked."""
    ours = {name: value for name, value in sorted(environ.items()) if name.startswith(prefixes)}
    return {
        name: MASK if _SECRET_NAME.search(name) and not name.endswith("_FILE") else value
        for name, value in ours.items()
    }


def secrets_of(environ: Mapping[str, str], *more: str) -> list[str]:
    """Returns the secrets that are known: the values of secret variables, and those given."""
    return [value for name, value in environ.items() if _SECRET_NAME.search(name) and not name.endswith("_FILE")] + [
        *more
    ]


def write_bundle(path: Path, files: Mapping[str, object], secrets: Iterable[str]) -> None:
    """Writes a .tar.gz that only its owner can read.

    Args:
        path: the file; it must not exist.
        files: the content by name, a text or what JSON can hold.
        secrets: what is masked in all of it.

    Raises:
        OSError: it can't be written.
    """
    known = list(secrets)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as archive:
        for name, content in files.items():
            clean = _masked_all(content, known)  # before JSON escapes a part of a secret
            text = clean if isinstance(clean, str) else json.dumps(clean, indent=1, default=str) + "\n"
            data = text.encode(errors="backslashreplace")
            member = tarfile.TarInfo(f"fpsctl-bundle/{name}")
            member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
            archive.addfile(member, io.BytesIO(data))


def _masked_all(content: object, secrets: list[str]) -> object:
    """Returns what JSON can hold with all texts in it masked."""
    if isinstance(content, str):
        return masked(content, secrets)
    if isinstance(content, Mapping):
        return {masked(str(name), secrets): _masked_all(value, secrets) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_masked_all(value, secrets) for value in content]
    return content
