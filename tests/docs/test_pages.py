"""The pages name only files, modules, make targets and sections that exist."""

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

FOLDERS = "bench|chaos|ci|console|docs|fuzz|handcounter|k8s|process|proto|requirements|sidecar|tests|worker"
PATH = re.compile(rf"(?<![\w/.{{}}-])(?:{FOLDERS})/[\w./*-]*[\w*/]")
FILE = re.compile(r"`([\w-]+\.(?:env|lua|md|mk|proto|py|toml|yaml)|Dockerfile\.\w+|Makefile|LICENSE)`")
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
MODULE = re.compile(r"python -m ((?:bench|chaos|console|fuzz|sidecar|worker)(?:\.\w+)*)")
TARGET = re.compile(r"(?:^\s*|`)(?:[A-Z]+=\S+ )?make ([a-z][\w-]*)", re.MULTILINE)


@functools.cache
def file_names() -> frozenset[str]:
    """Returns the names of all files of the repository, without their folders."""
    folders = (ROOT / folder for folder in FOLDERS.split("|"))
    return frozenset(
        path.name for found in (ROOT.glob("*"), *(folder.rglob("*") for folder in folders)) for path in found
    )


def anchors(text: str) -> set[str]:
    """Returns the anchors that GitHub makes for a page's titles."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def problems(page: Path, text: str) -> list[str]:
    """Returns what a page names although it doesn't exist."""
    missing = [path for path in set(PATH.findall(text)) if not any(ROOT.glob(path.rstrip("/")))]
    missing += set(FILE.findall(text)) - file_names()
    for target, anchor in LINK.findall(text):
        linked = page.parent / target
        if target and not linked.exists():
            missing.append(f"link to {target}")
        elif anchor and anchor not in anchors(linked.read_text() if target else text):
            missing.append(f"link to {target}#{anchor}")
    for module in MODULE.findall(text):
        path = ROOT / module.replace(".", "/")
        if not path.is_dir() and not path.with_suffix(".py").is_file():
            missing.append(f"python -m {module}")
    makefiles = "\n".join((ROOT / name).read_text() for name in ("Makefile", "hard.mk", "ci/ship.mk"))
    targets = set(re.findall(r"^([a-z][\w-]*):", makefiles, re.MULTILINE))
    return missing + [f"make {target}" for target in TARGET.findall(text) if target not in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_everything_that_a_page_names_exists(page: Path):
    """Each path, link, module and make target on a page leads somewhere."""
    assert problems(page, page.read_text()) == []


def test_the_pages_name_many_things():
    """The patterns find what the pages are full of; a pattern that matched nothing would check nothing."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = {pattern.pattern: len(set(pattern.findall(text))) for pattern in (PATH, FILE, LINK, MODULE, TARGET)}
    assert len(PAGES) > 15
    assert {pattern: count for pattern, count in found.items() if count < 5} == {}
    assert len(set(PATH.findall((ROOT / "docs/architecture.md").read_text()))) >= 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see `handcounter/pacing/limits.py`", []),
        ("see `sidecar/limits/gone.py`", ["sidecar/limits/gone.py"]),
        ("the folder `worker/queue/`", []),
        ("the folder `worker/queues/`", ["worker/queues/"]),
        ("`tests/integration/test_faults_*.py`", []),
        ("`tests/integration/test_nothing_*.py`", ["tests/integration/test_nothing_*.py"]),
        ("the image hand-counter/worker:1.0 and overlays/worker/x.yaml", []),
        ("`compose.yaml`, `absent.yaml`", ["absent.yaml"]),
        ("[fleet](fleet.md), [limits](operations.md#limits-live)", []),
        ("[gone](gone.md), [gone](operations.md#gone)", ["link to gone.md", "link to operations.md#gone"]),
        ("[elsewhere](https://example.com/gone.md)", []),
        ("# A title\n[here](#a-title), [not here](#a-text)", ["link to #a-text"]),
        ("    python -m bench.unary\n", []),
        ("    python -m bench.gone\n", ["python -m bench.gone"]),
        ("python -m fuzz, python -m worker.probe", []),
        ("run `make test`, or `TORCH=cpu make images`", []),
        ("run `make nothing` to make sense", ["make nothing"]),
    ],
)
def test_what_is_missing_is_found(text: str, expected: list[str]):
    """A page that names something that doesn't exist is a failure, and one that doesn't isn't."""
    assert problems(ROOT / "docs/page.md", text) == expected
