"""Hooks of mkdocs for the site of docs/.

The pages also link to files of the repository, which the site doesn't have; there they are plain text. Lists within lists are
written with two blanks, and mkdocs wants four. The list of decisions is that of their folder.
"""

import posixpath
import re
from typing import Any

OUTWARDS = re.compile(r"\[([^\]]*)\]\((\.\.?/[^)#\s]*)(?:#[^)\s]*)?\)")
NESTED = re.compile(r"^ {2}(?=[-*] )", re.MULTILINE)


def leads_out(page: str, target: str) -> bool:
    """Returns whether a link of a page, both relative to docs/, leads out of docs/."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target)).startswith("..")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Returns the page as mkdocs can take it."""
    name = page.file.src_uri
    text = OUTWARDS.sub(lambda link: link[1] if leads_out(name, link[2]) else link[0], markdown)
    return NESTED.sub("    ", text)


def on_files(files: Any, *, config: Any) -> Any:
    """Puts the decisions into the navigation."""
    names = sorted(
        file.src_uri for file in files if file.src_uri.startswith("decisions/") and file.src_uri.endswith(".md")
    )
    names.sort(key=lambda name: name != "decisions/README.md")
    for section in config.nav:
        for part in next(iter(section.values())) if isinstance(section, dict) else ():
            if isinstance(part, dict) and part.get("Decisions") == "decisions":
                part["Decisions"] = names
    return files
