"""Whether the processes of one worker are healthy together, from what is known of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Member(NamedTuple):
    """What the first process knows of another one."""

    address: str = ""
    """Where its pages are; empty: it hasn't opened them yet."""
    ended: bool = False
    """Whether it has closed them: its work is done. If it failed, all processes stop."""


class Answer(NamedTuple):
    """What a process answered."""

    ok: bool
    """Whether the status was 200."""
    details: object


class Silence(StrEnum):
    """Why a process gave no answer; the values are what the pages show."""

    STARTING = "starting"
    """It hasn't opened its pages yet."""
    DONE = "done"
    """Its work has come to an end, as with --drain."""
    NO_ANSWER = "no answer"
    """It has opened its pages, and doesn't answer in time, or nothing that can be read."""


Said: TypeAlias = Answer | Silence


def are_ready(said: Sequence[Said]) -> bool:
    """Returns whether all processes that have something left to do can do it."""
    return all(each.ok if isinstance(each, Answer) else each is Silence.DONE for each in said)


def are_alive(said: Sequence[Said], seconds: float, starting: float) -> bool:
    """Returns whether a restart wouldn't help.

    Args:
        said: what each process said.
        seconds: since they were started.
        starting: seconds after which one that still hasn't opened its pages is stuck.
    """

    def is_alive(each: Said) -> bool:
        if isinstance(each, Answer):
            return each.ok
        return each is Silence.DONE or (each is Silence.STARTING and seconds < starting)

    return all(map(is_alive, said))
