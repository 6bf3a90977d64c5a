"""What sidecars say: some that answer, some that don't."""

import contextlib
import socket
from pathlib import Path

import pytest
from support.processes.ports import free_port

from console.fpsctl.sidecars import Sidecars, resolved
from handcounter.client.testing import FakeSidecar


def test_two_sidecars_and_one_that_is_gone() -> None:
    """Each is asked; only one that somebody named is worth a remark."""
    gone = f"127.0.0.1:{free_port()}"
    with FakeSidecar(), FakeSidecar() as other:
        for expected in (True, False):
            with contextlib.closing(Sidecars([other.address, gone], expected=expected)) as sidecars:
                said = sidecars.streams()
                assert [each.address for each in said] == [other.address, gone]
                assert said[0].problem  # the fake one doesn't list streams
                assert said[1].problem == "unreachable"
                assert len(sidecars.problems(said)) == (2 if expected else 0)
                assert sidecars.names() == set()
                assert sidecars.default_fps() is None
                assert sidecars.health(gone) == "unreachable"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["10.0.0.2", "10.0.0.1"], ["10.0.0.1:50051", "10.0.0.2:50051"]),
        (["10.0.0.1"], ["sidecar:50051"]),
        (["::1", "127.0.0.1"], ["sidecar:50051"]),
        (["fd00::1", "fd00::2"], ["[fd00::1]:50051", "[fd00::2]:50051"]),
        (None, ["sidecar:50051"]),
    ],
)
def test_a_name_may_stand_for_several(
    answers: list[str] | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a headless Service does; a name of one address is kept, because certificates are for names."""

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        if answers is None:
            raise OSError
        return [(0, 0, 0, "", (answer, 50051)) for answer in answers]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert resolved(["sidecar:50051"]) == expected


def test_sockets_are_kept(tmp_path: Path) -> None:
    """A unix socket is one sidecar, and a repeated one is asked once."""
    assert resolved([f"unix:{tmp_path}/s", f"unix:{tmp_path}/s"]) == [f"unix:{tmp_path}/s"]
