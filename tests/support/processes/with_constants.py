"""Runs a program of this repository with other constants.

    python with_constants.py PROGRAM MODULE.NAME=NUMBER ... -- FLAGS

A timeout that is right for users may expire on a busy machine. A test that is about something else, or that must
distinguish a wait from a slow machine, sets one that no machine reaches.
"""

import importlib
import runpy
import sys


def set_constants(words: list[str]) -> None:
    """Sets constants of modules, each given as MODULE.NAME=NUMBER."""
    for word in words:
        name, _, number = word.partition("=")
        module, _, constant = name.rpartition(".")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(sys.modules[module], constant, float(number))


if __name__ == "__main__":
    program, *words = sys.argv[1:]
    end = words.index("--")
    set_constants(words[:end])
    sys.argv[1:] = words[end + 1 :]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
