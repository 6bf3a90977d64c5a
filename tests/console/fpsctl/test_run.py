"""What may go wrong before a command runs."""

import pytest

from console.fpsctl.__main__ import main


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["set", "cam1"], "fpsctl: Missing argument 'FPS'. (see fpsctl set --help)\n"),
        (["get", "cam1", "--nothing"], "fpsctl: No such option: --nothing (see fpsctl get --help)\n"),
        (["--nothing"], "fpsctl: No such option: --nothing (see fpsctl --help)\n"),
    ],
)
def test_wrong_usage_names_the_help(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the command's, if there is one."""
    assert main(words) == 2
    assert capsys.readouterr().err == expected
