"""Whether the processes of one worker are healthy together, from the health of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Member(NamedTuple):
    """What the first process knows of another one."""

    address: str = ""
    """Where its pages are; empty: it hasn't opened them yet."""
    ended: bool = False
    """Whether it has closed them, because its work is done. If it failed, all processes stop."""


class Answer(NamedTuple):
    """What a process answered."""

    ok: bool
    """Whether the status was 200."""
    details: object


class State(StrEnum):
    """The state of a process that gave no answer; the values are what the pages show."""

    STARTING = "starting"
    """It hasn't opened its pages yet."""
    DONE = "done"
    """Its work has come to an end, as with --drain."""
    NO_ANSWER = "no answer"
    """It has opened its pages, but doesn't answer in time, or its answer can't be read."""


Health: TypeAlias = Answer | State


def are_ready(processes: Sequence[Health]) -> bool:
    """Returns whether all processes that have something left to do can do it."""
    return all(each.ok if isinstance(each, Answer) else each is State.DONE for each in processes)


def are_alive(processes: Sequence[Health], seconds: float, starting: float) -> bool:
    """Returns whether a restart wouldn't help.

    Args:
        processes: the health of each.
        seconds: since they were started.
        starting: seconds after which one that still hasn't opened its pages is stuck.
    """

    def is_alive(each: Health) -> bool:
        if isinstance(each, Answer):
            return each.ok
        return each is State.DONE or (each is State.STARTING and seconds < starting)

    return all(map(is_alive, processes))
