"""Who makes a change."""

import getpass
import os
import socket

import pytest

from console.control.who import user_and_host


def test_a_user_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their name and the host."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert user_and_host() == f"ann@{socket.gethostname()}"


@pytest.mark.parametrize("error", [OSError, KeyError])
def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """As in containers: their number."""

    def fails() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fails)
    assert user_and_host() == f"uid{os.getuid()}@{socket.gethostname()}"
