"""Results by HTTP."""

import base64
import hashlib
import hmac
import json

import pytest
from support.processes.ports import free_port
from support.results import counted, numbered
from support.sink_servers import web_hook

from worker.sinks.http import HttpSink
from worker.sinks.sink import RejectedError, SinkError


def test_a_batch_is_one_signed_request() -> None:
    """An array of the results; the signature covers the time and the body."""
    with web_hook() as hook:
        HttpSink(f"http://us%40er:pa%2Fss@{hook.address}/hook?site=1", b"KEY", now=lambda: 1234.9).write(numbered(3))
    (request,) = hook.requests
    assert request.path == "/hook?site=1"
    assert [each["entry_id"] for each in json.loads(request.body)] == ["1-0", "2-0", "3-0"]
    expected = hmac.new(b"KEY", b"1234." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-hand-counter-timestamp"] == "1234"
    assert request.headers["x-hand-counter-signature"] == f"sha256={expected}"
    assert request.headers["content-type"] == "application/json"
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"us@er:pa/ss"


def test_without_a_key_nothing_is_signed() -> None:
    """And without a user there is no login."""
    with web_hook() as hook:
        HttpSink(f"http://{hook.address}").write([counted()])
    assert hook.requests[0].path == "/"
    assert not {"x-hand-counter-signature", "authorization"} & set(hook.requests[0].headers)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *[(status, SinkError) for status in (500, 503, 429, 408)],
        *[(status, RejectedError) for status in (401, 404, 302)],
    ],
)
def test_what_a_status_means(status: int, error: type[SinkError]) -> None:
    """A server that is busy is asked again; one that refuses isn't. Redirections aren't followed."""
    with web_hook(status) as hook, pytest.raises(SinkError, match=str(status)) as caught:
        HttpSink(f"http://user:SECRET@{hook.address}/SECRET").write([counted()])
    assert type(caught.value) is error
    assert "SECRET" not in str(caught.value)
    assert len(hook.requests) == 1


def test_a_server_that_is_not_there() -> None:
    """Is an error without the URL."""
    with pytest.raises(SinkError, match="reached") as caught:
        HttpSink(f"http://user:SECRET@127.0.0.1:{free_port()}/SECRET").write([counted()])
    assert type(caught.value) is SinkError
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("path", ["a b", "\u00fc", "a\x7f"])
def test_a_url_that_cant_be_sent(path: str) -> None:
    """Is an error without the URL."""
    with pytest.raises(RejectedError) as caught:
        HttpSink(f"http://127.0.0.1:{free_port()}/{path}?token=SECRET").write([counted()])
    assert "SECRET" not in str(caught.value)
