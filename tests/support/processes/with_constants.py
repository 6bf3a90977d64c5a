"""Runs one of our programs with other constants.

    python tests/support/processes/with_constants.py PROGRAM MODULE.NAME=NUMBER ... -- FLAGS

A time-out that is right for users is a matter of luck on a machine that does too many other things. Where a test is about
something else, or has to tell a wait from a slow machine, it takes one that no machine comes near.
"""

import importlib
import runpy
import sys

program, *words = sys.argv[1:]
end = words.index("--")
for word in words[:end]:
    name, _, number = word.partition("=")
    module, _, constant = name.rpartition(".")
    assert hasattr(importlib.import_module(module), constant), name
    setattr(sys.modules[module], constant, float(number))
sys.argv[1:] = words[end + 1 :]
runpy.run_module(program, run_name="__main__", alter_sys=True)
