import pytest

from console.web.options import ConsoleOptions
from console.web.settings import ConsoleSettings, is_loopback
from process.settings import Parser, add_flags, settings_from


def _settings(*words: str) -> ConsoleSettings:
    parser = Parser(prog="hand-counter console")
    add_flags(parser, ConsoleSettings)
    return settings_from(ConsoleSettings, parser.parse_args(list(words)), parser)


def test_by_default_it_is_read_only_and_of_this_machine_alone():
    options = _settings().arguments()["options"]
    assert isinstance(options, ConsoleOptions)
    assert (options.allow_changes, options.listen, options.pictures) == (False, "127.0.0.1:9470", True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--listen", "0.0.0.0:9470"], "beyond this machine"),
        (["--listen", ":9470"], "beyond this machine"),
        (["--listen", "[::]:9470", "--allow-changes"], "beyond this machine"),
        (["--listen", "9470"], "HOST:PORT"),
        (["--operator-token", "short"], "at least 16 characters"),
        (["--operator-token-file", "/nowhere"], "cannot read /nowhere"),
        (["--operator-token", "x" * 16, "--trusted-proxy", "10.0.0.1"], "not both"),
        (["--trusted-proxy", "proxy"], "expected an address or a network"),
        (["--operator-group", "ops"], "needs --trusted-proxy"),
        (["--sidecar", "unix:fps.sock"], "absolute path"),
        (["--sidecar-cert", "/x"], "given together"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        _settings(*words)
    line = capsys.readouterr().err
    assert problem in line
    assert "short" not in line


@pytest.mark.parametrize(
    "words",
    [
        ["--listen", "0.0.0.0:9470", "--viewer-token", "x" * 16],
        ["--listen", "0.0.0.0:9470", "--trusted-proxy", "10.0.0.0/8", "--operator-group", "ops"],
        ["--listen", "localhost:9470", "--allow-changes"],
        ["--sidecar", "a:1", "--sidecar", "unix:/run/fps.sock"],
    ],
)
def test_what_can_be_meant_is_taken(words: list[str]):
    assert _settings(*words)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("", False)]
)
def test_what_only_this_machine_reaches(host: str, expected: bool):
    assert is_loopback(host) is expected
