"""docs/queue.md and docs/results.md say what the code does, and their examples run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from support.files import files
from support.models.fake_detector import FakeDetector
from support.processes.workers import NO_SIDECAR, QueueServer, accounting, picture

from worker.hand_counter import serve
from worker.queue.frame import DeadReason
from worker.queue.keys import Keys
from worker.results import SCHEMA
from worker.run_settings import RunSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUEUE, RESULTS = ((DOCS / f"{page}.md").read_text() for page in ("queue", "results"))

REDIS_CLI = f"""#!{sys.executable} -IS
import os, socket, sys
words = [os.fsencode(word) for word in sys.argv[1:]]
if words[0] == b"-x":
    words = [*words[1:], sys.stdin.buffer.read()]
with socket.create_connection(("127.0.0.1", {{port}})) as connection:
    connection.sendall(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(word), word) for word in words))
    reply = connection.recv(65536)
print(reply)
sys.exit(reply.startswith(b"-"))
"""
"""Does what the examples need of redis-cli, without the time that it takes to import a client."""


def examples(page: str, language: str) -> list[str]:
    """Returns the examples of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def python(code: str, server: QueueServer, *arguments: str) -> subprocess.Popen[str]:
    """Starts an example with the server at its default address."""
    code = re.sub(r"redis\.Redis\(", f"redis.Redis(port={server.port}, ", code)
    return subprocess.Popen([sys.executable, "-uc", code, *arguments], stdout=subprocess.PIPE, text=True)


def drain(server: QueueServer) -> None:
    """Counts everything in the queue."""
    given = {"redis_url": server.url, "sidecar": NO_SIDECAR, "sidecar_wait": 0.0, "fps": float("inf"), "http": ""}
    settings = RunSettings(**given, unknown_streams="pace", max_age=float("inf"), threads=1, drain=True)
    assert serve(FakeDetector, settings.options) == 0


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture to publish."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture())
    return path


def test_the_producer_in_python_is_counted_and_its_results_read(valkey: QueueServer, photo: Path) -> None:
    """Each of its ten frames yields a result, which the reader of the other page prints."""
    (producer,), (reader,) = examples(QUEUE, "python"), examples(RESULTS, "python")
    with python(producer, valkey, str(photo)) as process:
        assert process.wait(60) == 0
    assert len([line for line in producer.splitlines() if line.strip()]) <= 12
    assert valkey.bytes.ttl(next(iter(valkey.bytes.scan_iter("{hand_counter}:frame:*")))) > 0
    drain(valkey)
    assert accounting(valkey.bytes) == {"received": 10, "counted": 10}
    assert not list(valkey.bytes.scan_iter("{hand_counter}:frame:*"))
    with python(reader.replace('last = "$"', 'last = "0"'), valkey) as process:
        assert process.stdout
        lines = [process.stdout.readline().split() for _ in range(10)]
        process.kill()
    assert [(line[0], line[2]) for line in lines] == [("cam1", "1")] * 10


def test_the_producer_in_a_shell_is_counted(valkey: QueueServer, photo: Path, tmp_path: Path) -> None:
    """Its pictures arrive as they are, with zero bytes and line ends, and all three frames are counted."""
    (producer,) = [example for example in examples(QUEUE, "sh") if "XADD" in example]
    command = tmp_path / "redis-cli"
    command.write_text(REDIS_CLI.format(port=valkey.port))
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-euc", producer], env={**environment, "PICTURE": str(photo)}, check=True, timeout=120)
    drain(valkey)
    assert accounting(valkey.bytes) == {"received": 3, "counted": 3}
    ((_, entry), *_) = valkey.bytes.xrevrange(Keys().counts, count=1)
    assert set(entry) == {b"result", b"stream_name", b"ts"}


def test_the_example_of_a_result_is_one() -> None:
    """It fits the schema, and the table has each of its fields."""
    (example,) = examples(RESULTS, "json")
    result, schema = json.loads(example), json.loads(SCHEMA.read_text())
    jsonschema.validate(result, schema)
    assert list(result) == [
        field for field in schema["properties"] if field != "dropped"
    ]  # of `detect --explain` alone
    table = "\n".join(line for line in RESULTS.splitlines() if line.startswith("| `"))
    for field in schema["required"]:
        assert f"`{field}`" in table
    for field in schema["properties"]["hands"]["items"]["properties"]:
        assert f"`{field}`" in RESULTS or f"`hands[].{field}`" in table


def test_the_pages_name_the_keys_and_the_reasons() -> None:
    """The keys are those of the code, and every reason of dead letters is named."""
    keys = Keys()
    for key in (keys.frames, keys.dead, keys.accounting, keys.payload("")):
        assert f"`{key}`" in QUEUE
    assert f"`{keys.counts}`" in RESULTS
    for reason in DeadReason:
        assert f"`{reason}`" in QUEUE


def test_the_readme_leads_to_both_pages() -> None:
    """And so finds them who looks for a format."""
    readme = (DOCS.parent / "README.md").read_text()
    for page in ("queue", "results"):
        assert f"docs/{page}.md" in readme
    assert files("docs/*.md")
