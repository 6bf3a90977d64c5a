"""What the site makes of a page."""

from types import ModuleType, SimpleNamespace

import pytest
from support.scripts import script


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """Returns the hooks."""
    return script("ci/site.py")


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("client.md", "the [contract](../proto/a.proto).", "the contract."),
        ("client.md", "[queue](queue.md), [here](#a-title), [out](https://example.com/x)", None),
        ("decisions/0001.md", "[hands](../../worker/hands.py)", "hands"),
        ("decisions/0001.md", "[metrics](../metrics.md#the-worker)", None),
        ("queue.md", "- one\n  - nested", "- one\n    - nested"),
        ("queue.md", "- one\n  goes on", None),
    ],
)
def test_links_out_of_the_docs_are_text(site: ModuleType, page: str, text: str, expected: str | None):
    """Links within stay, and lists within lists are indented as mkdocs wants them."""
    asked = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert site.on_page_markdown(text, page=asked) == (text if expected is None else expected)


def test_the_decisions_are_listed(site: ModuleType):
    """Their index first."""
    names = ["queue.md", "decisions/0002.md", "decisions/0001.md", "decisions/README.md", "decisions/x.png"]
    config = SimpleNamespace(nav=[{"Start": "README.md"}, {"Explanation": ["fleet.md", {"Decisions": "decisions"}]}])
    site.on_files([SimpleNamespace(src_uri=name) for name in names], config=config)
    (decisions,) = (part["Decisions"] for part in config.nav[1]["Explanation"] if isinstance(part, dict))
    assert decisions == ["decisions/README.md", "decisions/0001.md", "decisions/0002.md"]
