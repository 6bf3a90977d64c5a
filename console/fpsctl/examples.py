"""The examples below the help of each command."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "top": (
            "fpsctl top                              live; q ends it, / finds a stream",
            "fpsctl top floor1 --once                those with floor1 in their names",
            "fpsctl top silent --once                those whose frames come no more",
        ),
        "list": ("fpsctl list", "fpsctl list 'floor1-*' --json"),
        "get": ("fpsctl get cam1",),
        "explain": ("fpsctl explain cam1",),
        "set": (
            "fpsctl set cam1 0.25                    one frame in four seconds",
            "fpsctl set '*' 2                        all without a limit of their own",
            "fpsctl set --pattern 'floor1-*' 2       all that match, also those to come",
            "fpsctl set 'floor1-*' 2 --dry-run       what it would change",
        ),
        "pause": (
            "fpsctl pause cam1 cam2                  and fpsctl resume cam1 cam2",
            "fpsctl pause '?*' '*' --yes             all streams",
        ),
        "resume": ("fpsctl resume cam1 cam2",),
        "reset": (
            "fpsctl reset cam1                       its pattern, * or --fps applies",
            "fpsctl reset --pattern 'floor1-*'",
        ),
        "boost": (
            "fpsctl boost cam1 10 --for 1h30m        then its own limit again",
            "fpsctl boost cam1 0 --for 10m           a pause that ends by itself",
            "fpsctl boost cam1 --end",
        ),
        "undo": (
            "fpsctl undo                             your last change",
            "fpsctl undo cam1                        the last one of cam1, by anybody",
        ),
        "audit": ("fpsctl audit --last 50", "fpsctl audit cam1 --json"),
        "watch": ("fpsctl watch",),
        "lint": (
            "fpsctl lint",
            "fpsctl lint --capacity 40               for workers that count 40 fps",
        ),
        "doctor": ("fpsctl doctor", "fpsctl doctor --bundle support.tar.gz"),
        "import": (
            "fpsctl import limits.yaml --dry-run     what it would change",
            "fpsctl import limits.yaml --replace     also removes what it lacks",
        ),
        "export": ("fpsctl export > limits.yaml", "fpsctl export --format csv > limits.csv"),
        "diff": ("fpsctl diff limits.yaml",),
        "results": (
            "fpsctl results cam1 --last 5",
            "fpsctl results --follow --json",
        ),
        "probe": (
            "fpsctl probe rtsp://camera.local/stream --snapshot door.jpg",
            "fpsctl probe --source-file door.url     a URL with a password",
        ),
    }
)
"""Examples by command: a command line and, two or more blanks later, what it does."""


def below_help(name: str) -> str:
    """Returns what stands below the help of a command; its first line keeps typer from wrapping the others."""
    return "\n".join(("\b", "examples:", *(f"  {line}" for line in EXAMPLES[name])))
