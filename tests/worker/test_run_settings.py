"""The options that the settings of ``hand-counter run`` become."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from process.redis_access import RedisAccess
from worker.hands_settings import HandsSettings
from worker.options import HandsOptions, RunOptions
from worker.publish.ingest_settings import IngestSettings
from worker.publish.settings import PublishSettings
from worker.queue.partitions import Partitions, Share
from worker.repartition_settings import RepartitionSettings
from worker.results_settings import ResultsSettings
from worker.run_settings import RunSettings
from worker.settings import QueueSettings
from worker.sinks.open_sinks import parse_sink


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine is a setting."""
    for name in list(os.environ):
        if name.startswith("WORKER_"):
            monkeypatch.delenv(name)


def test_the_defaults_of_hands_stand_once() -> None:
    """Those of the flags are those of the value, which a user of the library gets."""
    assert HandsSettings().hands_options == HandsOptions()


def test_every_setting_of_hands_reaches_its_option() -> None:
    """Each by its own name."""
    given = {
        "backend": "hamer",
        "effort": "thorough",
        "min_score": 0.25,
        "models_dir": Path("models"),
        "hamer_checkpoint": Path("hamer.ckpt"),
        "mano": Path("mano.pkl"),
        "device": "cuda:1",
        "mesh": True,
        "hamer_compile": "on",
        "hamer_precision": "bfloat16",
        "hamer_cache": Path("cache"),
    }
    assert set(given) == set(HandsSettings.model_fields) - {"log_level", "log_format"}
    assert HandsSettings(**given).hands_options == HandsOptions(**given)


def flat(value: object) -> dict[str, object]:
    """The leaves of nested options."""
    leaves: dict[str, object] = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        nested = dataclasses.is_dataclass(inner) and type(inner).__module__ == "worker.options"
        leaves.update(flat(inner) if nested else {field.name: inner})
    return leaves


def test_every_setting_of_run_reaches_its_option() -> None:
    """Those of the sidecar under shorter names; all values differ from the defaults."""
    own = {
        "threads": 7,
        "batch_size": 17,
        "max_bytes_in_flight": 12345,
        "max_age": 3.5,
        "fresh": 1.5,
        "claim_idle": 12.5,
        "max_deliveries": 9,
        "max_pixels": 1234,
        "consumer": "pod-1",
        "counts_maxlen": 11,
        "dead_maxlen": 12,
        "keep_payloads": True,
        "metrics_streams": 13,
        "drain": True,
        "http": "127.0.0.1:1",
        "grace": 2.5,
        "progress": 8.5,
    }
    renamed = {
        "sidecar": ("address", "unix:/run/fps.sock"),
        "fps": ("default_fps", 0.25),
        "decision_timeout": ("decision_timeout", 0.5),
        "sidecar_wait": ("start_wait", 4.5),
    }
    own |= {"processes": 3, "sink": ["http://host/", "redis"], "sink_hmac_key": "KEY"}
    own["no_previews"] = own["no_smoothing"] = True
    others = {"redis_url": "redis://host:1/2", "unknown_streams": "pace"}
    others |= {"prefix": "site", "partitions": 6, "own": "1/3"}
    settings = RunSettings(**own, **{name: value for name, (_, value) in renamed.items()}, **others)
    options = settings.arguments()["options"]
    assert isinstance(options, RunOptions)
    leaves = flat(options)
    assert leaves.pop("previews") is not own.pop("no_previews")
    assert leaves.pop("specs") == tuple(map(parse_sink, own.pop("sink")))
    assert leaves.pop("hmac_key") == own.pop("sink_hmac_key").encode()
    assert leaves.pop("smoothing") is not own.pop("no_smoothing")
    assert {name: leaves.pop(name) for name in own} == own
    assert {name: leaves.pop(name) for name, _ in renamed.values()} == dict(renamed.values())
    assert not leaves.pop("wait_for_limits")
    assert not leaves.pop("in_group")
    assert leaves.pop("redis").addresses[0] == ("host", 1)
    assert leaves.pop("partitions") == Partitions("site", 6)
    assert leaves.pop("share") == Share(1, 3)
    assert leaves.pop("access") == RedisAccess()
    assert leaves == {"ca": None, "certificate": None, "key": None}
    assert settings.arguments()["hands"] == HandsOptions()


def test_the_default_name_of_a_consumer_is_that_of_the_process() -> None:
    """It stays the same when a container restarts, where host name and process id do."""
    assert RunSettings().options.queue.consumer == f"{socket.gethostname()}-{os.getpid()}"


def test_sinks_and_their_key_may_be_in_files(tmp_path: Path) -> None:
    """One sink a line; comments and empty lines are nothing. They come in addition to those of the flags."""
    sinks, key = tmp_path / "sinks", tmp_path / "key"
    sinks.write_text("\ufeff# where results go\n\nhttp://user:pass@host/\nsql:sqlite:///x\n")
    key.write_text("KEY\n")
    options = RunSettings(sink=["jsonl:-"], sink_file=sinks, sink_hmac_key_file=key).options.sinks
    assert options.specs == tuple(map(parse_sink, ["jsonl:-", "http://user:pass@host/", "sql:sqlite:///x"]))
    assert options.hmac_key == b"KEY"


def test_sinks_that_cannot_be_used_are_refused_without_their_secrets(tmp_path: Path) -> None:
    """Wherever they are written."""
    bad, empty = tmp_path / "bad", tmp_path / "empty"
    bad.write_text("http:SECRET")
    empty.touch()
    for given in (
        {"sink": ["http:SECRET"]},
        {"sink_file": bad},
        {"sink_file": tmp_path / "missing"},
        {"sink_hmac_key_file": empty},
        {"sink_hmac_key": "SECRET", "sink_hmac_key_file": empty},
    ):
        with pytest.raises(ValidationError) as error:
            RunSettings(**given)
        assert "SECRET" not in error.value.errors(include_url=False, include_input=False)[0]["msg"]


def test_options_are_frozen() -> None:
    """No part can change them for another."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunSettings().options.pipeline.drain = True


@pytest.mark.parametrize(
    "settings", [PublishSettings, IngestSettings, RunSettings, ResultsSettings, RepartitionSettings]
)
def test_a_prefix_that_is_a_partition_is_refused(settings: type[QueueSettings]) -> None:
    """By all programs that read or write a queue."""
    with pytest.raises(ValidationError, match="has the keys of partition 3 of the prefix 'hand_counter'"):
        settings(prefix="hand_counter:3")


def test_several_processes_share_the_threads() -> None:
    """Each is a consumer of its own with its part of them; a file of results would be written by all, so it is refused."""
    options = RunSettings(processes=3, threads=8, consumer="pod", http="127.0.0.1:9465").options
    own = options.of_process(1)
    assert (own.queue.consumer, own.threads, own.processes, own.http) == ("pod-1", 3, 1, "127.0.0.1:0")
    assert [options.of_process(number).threads for number in range(3)] == [3, 3, 2]
    assert RunSettings(processes=3, threads=2, http="").options.of_process(0).threads == 1
    with pytest.raises(ValueError, match="jsonl"):
        RunSettings(processes=2, sink=["jsonl:results.jsonl"])
