"""The common half of both probes."""

import pytest

from process.probe import local_address, run


def probe(argv: list[str], reason: str | None) -> tuple[int, list[str]]:
    """Runs a probe that gets this answer; returns the exit code and the addresses that it asked."""
    asked: list[str] = []

    def problem(address: str) -> str | None:
        if not address.startswith("h:"):
            raise ValueError(f"expected h:PORT, got {address}")
        asked.append(address)
        return reason

    return run(argv, "probe [h:PORT]", "h:1", problem), asked


def test_without_an_argument_the_configured_address_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """A healthy process is exit code 0, and nothing is printed."""
    assert probe([], None) == (0, ["h:1"])
    assert probe(["h:2"], None) == (0, ["h:2"])
    assert capsys.readouterr() == ("", "")


def test_the_reason_is_one_line_with_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    """An unhealthy process is exit code 1."""
    assert probe(["h:2"], "NOT_SERVING") == (1, ["h:2"])
    assert capsys.readouterr().err == "h:2: NOT_SERVING\n"


@pytest.mark.parametrize(
    ("argv", "error"),
    [(["--help"], "expected h:PORT, got --help"), (["h:1", "h:2"], "expected one address, got h:1 h:2")],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], error: str) -> None:
    """Anything but one valid address is exit code 2, with the usage."""
    assert probe(argv, None) == (2, [])
    assert capsys.readouterr().err == f"probe [h:PORT]: {error}\n"


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        (":50051", "127.0.0.1:50051"),
        ("[::]:50051", "[::1]:50051"),
        ("[::1]:50051", "[::1]:50051"),
        ("127.0.0.2:50051", "127.0.0.2:50051"),
        ("unix:/run/s.sock", "unix:/run/s.sock"),
    ],
)
def test_every_interface_is_asked_on_loopback(listen: str, asked: str) -> None:
    """A server can listen on an address that means every interface, but it can't be asked there."""
    assert local_address(listen) == asked
