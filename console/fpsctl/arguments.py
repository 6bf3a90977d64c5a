"""What is made of the command line and the environment before they are parsed. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

PREFIX: Final = "FPSCTL_"

_SHARED: Final = (
    "REDIS_URL",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDIS_PASSWORD_FILE",
    "REDIS_CA",
    "REDIS_CERT",
    "REDIS_KEY",
    "REDIS_SENTINEL_USERNAME",
    "REDIS_SENTINEL_PASSWORD",
)
"""The ends of the variables that say where Redis is; all programs have them."""


def global_flags_first(argv: Sequence[str], flags: Mapping[str, bool]) -> list[str]:
    """Returns the arguments with the flags of the program before the command, so that they may be given after it, too.

    Args:
        argv: the arguments.
        flags: the program's flags, and whether each takes a value.
    """
    first: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        name, equals, _ = word.partition("=")
        if name not in flags:
            rest.append(word)
            continue
        first.append(word)
        if flags[name] and not equals:
            first += [value for value in [next(words, None)] if value is not None]
    return first + rest


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns variables of fpsctl by those of the program whose container it runs in, if it has none of its own.

    So ``kubectl exec`` needs no flags. Where Redis is and how to log in are taken together or not at all.
    """
    given = {name: value for name, value in environ.items() if value}
    found: dict[str, str] = {}
    if not any(PREFIX + end in given for end in _SHARED):
        for prefix in ("SIDECAR_", "WORKER_"):
            if any(prefix + end in given for end in _SHARED):
                found |= {PREFIX + end: given[prefix + end] for end in _SHARED if prefix + end in given}
                break
    for name, sources in {
        "CONFIG_KEY": ("SIDECAR_CONFIG_KEY",),
        "PREFIX": ("WORKER_PREFIX",),
        "SIDECAR": ("WORKER_SIDECAR", "SIDECAR_LISTEN"),
        "SIDECAR_CA": ("WORKER_SIDECAR_CA",),
        "SIDECAR_CERT": ("WORKER_SIDECAR_CERT",),
        "SIDECAR_KEY": ("WORKER_SIDECAR_KEY",),
    }.items():
        if PREFIX + name not in given:
            value = next((given[source] for source in sources if source in given), None)
            if value is not None:
                found[PREFIX + name] = _own_address(value) if name == "SIDECAR" else value
    return found


def _own_address(listen: str) -> str:
    """Returns the address to ask of the addresses that a sidecar listens on: the first, on this machine."""
    address = listen.split(",")[0].strip()
    for everywhere in ("0.0.0.0:", "[::]:", ":"):
        if address.startswith(everywhere):
            return "127.0.0.1:" + address.removeprefix(everywhere)
    return address
