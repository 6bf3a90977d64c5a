from prometheus_client import generate_latest
from support.processes.programs import REPOSITORY

from worker.publish.camera_status import CameraState, CameraStatus
from worker.publish.ingest_metrics import IngestMetrics

STATUSES = {
    "door": CameraStatus(
        state=CameraState.WORKING, since=1.0, source="0", source_fps=25.0, ts=9.5, published=3, thinned=4, bytes=99
    ),
    "yard": CameraStatus(state=CameraState.LOST, since=1.0, source="1", dropped=2),
    "gate": CameraStatus(state=CameraState.LOST, since=1.0, source="2"),
}


def test_the_page_lists_each_metric() -> None:
    """With type, labels and meaning."""
    page = (REPOSITORY / "docs/metrics.md").read_text().partition("## Ingest")[2].splitlines()
    listed = [line for line in page if line.startswith("| `hand_counter_")]
    rows = []
    for family in IngestMetrics(lambda: STATUSES, lambda: True, 2).registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(
            f"`{label}`" for label in sorted({label for each in family.samples for label in each.labels})
        )
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    assert sorted(listed) == sorted(rows), "the table should be:\n" + "\n".join(sorted(rows))


def test_each_camera_has_its_metrics() -> None:
    """Up to a number of cameras; all count in the totals."""
    lines = generate_latest(IngestMetrics(lambda: STATUSES, lambda: False, 2).registry).decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples['hand_counter_cameras{state="lost"}'] == "2.0"
    assert samples['hand_counter_cameras{state="ended"}'] == "0.0"
    assert samples["hand_counter_camera_redis_up"] == "0.0"
    assert samples['hand_counter_camera_frames_total{camera="door",outcome="thinned"}'] == "4.0"
    assert samples['hand_counter_camera_frames_total{camera="yard",outcome="dropped"}'] == "2.0"
    assert samples['hand_counter_camera_bytes_total{camera="door"}'] == "99.0"
    assert samples['hand_counter_camera_source_fps{camera="door"}'] == "25.0"
    assert samples['hand_counter_camera_working{camera="yard"}'] == "0.0"
    assert samples['hand_counter_camera_ts{camera="door"}'] == "9.5"
    assert not any("gate" in name for name in samples)
