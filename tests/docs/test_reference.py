"""The reference pages are those that the code says, and know every flag, call and key."""

from types import ModuleType

import pytest
from support.processes.programs import REPOSITORY
from support.scripts import script

from worker.queue.keys import Keys

FOLDER = REPOSITORY / "docs/reference"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Returns the script."""
    return script("ci/reference.py")


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    """Returns what the pages should be."""
    return reference.pages()


def test_the_pages_are_up_to_date(pages: dict[str, str]):
    """Else: `make reference`."""
    assert {path.name for path in FOLDER.glob("*.md")} == {*pages, "README.md"}
    assert [name for name, text in pages.items() if (FOLDER / name).read_text() != text] == []


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        ("fps-sidecar.md", ["| `--fps FPS` | `SIDECAR_FPS` | `1.0` |", "| `--listen ADDRESS` | `SIDECAR_LISTEN` |"]),
        (
            "hand-counter.md",
            ["| `--threads N` | `WORKER_THREADS` | `by the machine` |", "| `SOURCE` | `WORKER_SOURCE` |"],
        ),
        ("hand-counter.md", ["| `--allow-changes` | `CONSOLE_ALLOW_CHANGES` |", "## hand-counter ingest"]),
        ("fpsctl.md", ["| `--redis-url URL` | `FPSCTL_REDIS_URL` |", "## fpsctl boost", "| `--yes, -y` |"]),
        ("rpcs.md", ["## WatchLimits", "| `should_process` | `bool` | Whether", "| `REASON_TOO_SOON` | 2 |"]),
        (
            "hands.md",
            ["| `box` | 4 | pixels | 2 | the detector |", "| `betas` | 10 |", "| `off_centre` | the projected"],
        ),
        ("redis-keys.md", ["| `stream_fps_configs:boosts` | a hash", "| `stream_fps_slot:{TAG}:NAME` |"]),
    ],
)
def test_they_say_what_they_should(pages: dict[str, str], page: str, lines: list[str]):
    """A row each of the kinds of rows."""
    assert [line for line in lines if line not in pages[page]] == []


def test_every_key_of_the_queue_is_listed(pages: dict[str, str]):
    """Each key that the code can make."""
    keys = Keys()
    made = [keys.frames, keys.counts, keys.dead, keys.accounting, keys.unread, keys.payload("<id>")]
    made += [keys.stream("<name>"), keys.preview("<name>"), keys.camera("<name>")]
    assert [key for key in made if f"| `{key}` |" not in pages["redis-keys.md"]] == []


def test_what_markdown_would_read_is_escaped(reference: ModuleType):
    """In cells, prose and code."""
    assert reference.cell("a | b\n*c* <d> e_f _g") == r"a \| b \*c\* &lt;d> e_f \_g"
    assert reference.code("a|b") == r"`a\|b`"
    assert reference.prose("One\ntwo.\n\nThree.\n\nexamples:\n  x") == "One two.\n\nThree."
