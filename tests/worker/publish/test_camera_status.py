import json

from worker.publish.camera_status import EVERY_S, TTL_S, CameraState, CameraStatus


def test_the_fields_of_the_hash() -> None:
    """Each is a text that other programs can parse; what isn't known is empty."""
    status = CameraStatus(
        state=CameraState.LOST,
        since=10.0,
        source="rtsp://door/…",
        error="door refuses connections to port 554",
        error_at=10.0,
        source_fps=24.97,
        ts=9.123456,
        arrived=7,
        published=2,
        thinned=4,
        dropped=1,
        bytes=2000,
        labels={"floor": "1", "site": "Köln"},
        host="ingest-0",
        max_queue=20_000,
    )
    assert status.fields(12.5) == {
        "state": "lost",
        "since": "10.000",
        "source": "rtsp://door/…",
        "error": "door refuses connections to port 554",
        "error_at": "10.000",
        "codec": "",
        "size": "",
        "source_fps": "24.97",
        "ts": "9.123456",
        "arrived": "7",
        "published": "2",
        "thinned": "4",
        "dropped": "1",
        "bytes": "2000",
        "labels": '{"floor": "1", "site": "Köln"}',
        "host": "ingest-0",
        "max_queue": "20000",
        "updated_at": "12.500",
    }


def test_what_nobody_knows_yet() -> None:
    """A camera that starts has neither a time nor an error."""
    fields = CameraStatus(state=CameraState.STARTING, since=1.0, source="webcam 0").fields(1.0)
    assert (fields["ts"], fields["error"], fields["error_at"], fields["source_fps"]) == ("", "", "", "0")
    assert json.loads(fields["labels"]) == {}


def test_counters_are_no_news() -> None:
    """They wait for the next writing, which comes before the hash expires."""
    one = CameraStatus(state=CameraState.WORKING, since=1.0, source="0", arrived=1, ts=1.0)
    two = CameraStatus(state=CameraState.WORKING, since=1.0, source="0", arrived=2, ts=2.0)
    assert one.news == two.news
    assert one.news != CameraStatus(state=CameraState.LOST, since=1.0, source="0").news
    assert 3 * EVERY_S < TTL_S
