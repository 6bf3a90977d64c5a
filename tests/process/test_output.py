"""Standard output that fails."""

import io
import os
import subprocess
import sys

import pytest

from process.output import Output

PROGRAM = """
import sys
from process.output import Output
output = Output(sys.stdout)
for number in range(20000):
    output.line(f"line {number} \\udcff \\u00e4")
print(output.problem, file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("redirection", "problem"),
    [
        ("| head -1", "Broken pipe"),
        ("> /dev/full", "No space left on device"),
        (">&-", "it is closed"),
        ("> /dev/null", ""),
    ],
)
def test_failures(redirection: str, problem: str) -> None:
    """The work goes on, nothing but the problem is on standard error, and the exit code stays the program's own."""
    command = f'set -o pipefail; "$PYTHON" -c "$PROGRAM" {redirection}'
    environment = {**os.environ, "PYTHON": sys.executable, "PROGRAM": PROGRAM, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == f"{problem}\n"
    assert done.returncode == 3


def test_characters_that_the_locale_lacks() -> None:
    """They are escaped."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
    Output(stream).line("\u00e4 \udcff.jpg")
    assert stream.buffer.getvalue() == b"\\xe4 \\udcff.jpg\n"


def test_a_closed_stream() -> None:
    """It is a problem too, and the lines after it are lost."""
    stream = io.StringIO()
    stream.close()
    output = Output(stream)
    output.line("one")
    output.line("two")
    assert "closed" in output.problem


def test_a_table_of_rich_on_a_stream_that_fails() -> None:
    """The program goes on; rich itself would end it, or raise."""
    program = (
        PROGRAM.replace("output = Output(sys.stdout)", "from rich.console import Console\noutput = Output(sys.stdout)")
        .replace("output.line(", "Console(file=output).print(")
        .replace("20000", "200")
    )
    for redirection, problem in (
        ("| head -0", "Broken pipe"),
        ("> /dev/full", "No space left on device"),
        (">&-", "it is closed"),
    ):
        command = f'set -o pipefail; "$PYTHON" -c "$PROGRAM" {redirection}'
        environment = {**os.environ, "PYTHON": sys.executable, "PROGRAM": program, "PYTHONIOENCODING": "ascii:strict"}
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60)
        assert (done.stderr, done.returncode) == (f"{problem}\n", 3)
