import gzip
import re

import pytest
from starlette.requests import Request

from console.web.page_files import STATIC, PageFiles

FILES = PageFiles()


def _request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw})


@pytest.mark.parametrize(("name", "media_type"), [("main.js", "javascript"), ("page.css", "css"), ("icon.svg", "svg")])
def test_a_file_comes_as_it_is_or_compressed(name: str, media_type: str):
    plain, compressed = FILES.answer(_request(), name), FILES.answer(_request(accept_encoding="br, gzip"), name)
    assert plain.body == gzip.decompress(compressed.body) == (STATIC / name).read_bytes()
    assert media_type in plain.headers["content-type"]
    assert (compressed.headers["content-encoding"], compressed.headers["vary"]) == ("gzip", "accept-encoding")


def test_a_browser_that_has_it_gets_nothing():
    first = FILES.answer(_request(), "main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = FILES.answer(_request(if_none_match=first.headers["etag"]), "main.js")
    assert (again.status_code, again.body) == (304, b"")
    assert FILES.answer(_request(if_none_match='W/"other"'), "main.js").status_code == 200


@pytest.mark.parametrize("name", ["", "nothing.js", "../app.py", "..", "/etc/passwd"])
def test_only_files_of_the_folder(name: str):
    assert FILES.answer(_request(), name).status_code == 404


def test_the_page_names_every_module():
    """Each is one that main.js imports, directly or not: the browser would complain about others."""
    named = set(re.findall(r'modulepreload" href="/static/([^"]+)"', FILES.text("index.html")))
    assert named == {path.name for path in STATIC.glob("*.js")}
    imported = {name for path in STATIC.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', path.read_text())}
    assert named == imported | {"main.js"}
