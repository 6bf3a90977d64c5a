"""Writes the Grafana dashboard from the list of its panels.

    python ci/dashboard.py > k8s/components/monitoring/dashboard.json      (make dashboard)

A test compares the file with this list, and its metrics with those of the programs.
"""

import json
import sys
from typing import Any, NamedTuple


class Panel(NamedTuple):
    """One graph: its title, description and unit, and its queries by the names of their lines."""

    title: str
    explanation: str
    unit: str
    queries: dict[str, str]


WHERE = '{namespace=~"$namespace"}'
"""All namespaces are `.*`, which also selects series that have no such label, as with compose."""


def _rate(metric: str, by: str = "") -> str:
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}{WHERE}[$__rate_interval]))"


def _quantile(q: float, metric: str) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{WHERE}[$__rate_interval])))"


def _top(metric: str) -> str:
    return f"topk(20, sum by (stream_name) ({metric}{WHERE}))"


PANELS = (
    Panel(
        "Frames",
        "Frames received, counted, and skipped by reason.",
        "reqps",
        {
            "received": _rate("hand_counter_received_total"),
            "counted": _rate("hand_counter_counted_total"),
            "skipped: {{reason}}": _rate("hand_counter_skipped_total", "reason"),
        },
    ),
    Panel(
        "Decisions of the sidecar",
        "Frames decided, by reason.",
        "reqps",
        {"{{reason}}": _rate("sidecar_decisions_total", "reason")},
    ),
    Panel(
        "Age of a frame when work on it begins",
        "How long admitted live frames waited: at most about a round of the streams that wait, under any load.",
        "s",
        {
            "median": _quantile(0.5, "hand_counter_queue_age_seconds"),
            "p90": _quantile(0.9, "hand_counter_queue_age_seconds"),
            "p99": _quantile(0.99, "hand_counter_queue_age_seconds"),
        },
    ),
    Panel(
        "Work on one frame",
        "Decoding and detection.",
        "s",
        {
            "median": _quantile(0.5, "hand_counter_frame_seconds"),
            "p99": _quantile(0.99, "hand_counter_frame_seconds"),
        },
    ),
    Panel(
        "Who decides",
        "by=local: the sidecar is unreachable and the worker paces locally.",
        "reqps",
        {"{{by}}": _rate("hand_counter_decisions_total", "by")},
    ),
    Panel(
        "Connections",
        "1 means connected.",
        "none",
        {
            "sidecar, {{pod}}": f"hand_counter_sidecar_up{WHERE}",
            "Redis, {{pod}}": f"hand_counter_redis_up{WHERE}",
            "sidecar's Redis: {{state}}, {{pod}}": f"sidecar_redis_state{WHERE}",
        },
    ),
    Panel(
        "Age of the limits in force",
        "Time since they were last known to agree with Redis.",
        "s",
        {"{{pod}}": f"sidecar_fps_table_age_seconds{WHERE}"},
    ),
    Panel(
        "Streams",
        "Streams that have a schedule, and frames refused because there is no room for another stream.",
        "none",
        {"streams, {{pod}}": f"sidecar_streams{WHERE}", "refused": _rate("sidecar_refused_frames_total")},
    ),
    Panel(
        "Frames per second by stream",
        "What the cameras deliver to the workers, of the 20 fastest. 0: the stream has been silent for 5 s.",
        "none",
        {"{{stream_name}}": _top("hand_counter_stream_source_fps")},
    ),
    Panel(
        "Counted per second by stream",
        "Of the 20 streams that are counted most often.",
        "none",
        {"{{stream_name}}": _top("hand_counter_stream_counted_fps")},
    ),
    Panel(
        "Hands by stream",
        "In the last result, of the 20 streams with the most.",
        "none",
        {"{{stream_name}}": f"topk(20, max by (stream_name) (hand_counter_stream_hands{WHERE}))"},
    ),
    Panel(
        "Age by stream",
        "Of the last counted frame when counting began, of the 20 oldest.",
        "s",
        {"{{stream_name}}": f"topk(20, max by (stream_name) (hand_counter_stream_age_seconds{WHERE}))"},
    ),
    Panel(
        "Limit by stream",
        "The frames per second in force, of the 20 streams with the highest limits. Streams without a limit aren't shown.",
        "none",
        {"{{stream_name}}": f"topk(20, max by (stream_name) (sidecar_stream_fps{WHERE} < Inf))"},
    ),
    Panel(
        "Admitted per second by stream",
        "By all sidecars together, of the 20 streams that are admitted most often.",
        "none",
        {"{{stream_name}}": _top("sidecar_stream_achieved_fps")},
    ),
    Panel(
        "Skipped per second by stream",
        "Of the 20 streams and reasons with the most; too_soon is the limit at work, and isn't shown.",
        "reqps",
        {
            "{{stream_name}}: {{reason}}": "topk(20, sum by (stream_name, reason) (rate(hand_counter_stream_skipped_total"
            + WHERE.replace("}", ', reason!="too_soon"}')
            + "[$__rate_interval])))"
        },
    ),
    Panel(
        "Freshness",
        "Which share of the admitted live frames gives way to newer ones (overload), and how many wait.",
        "none",
        {
            "superseded, share": f"max (hand_counter:superseded:ratio{WHERE})",
            "waiting, {{pod}}": f"hand_counter_waiting{WHERE}",
            "waiting for a limit, {{pod}}": f"hand_counter_waiting_for_limit{WHERE}",
        },
    ),
    Panel(
        "Patterns and boosts",
        "In force, or ignored and why, as each sidecar reads them.",
        "none",
        {
            "patterns: {{state}}, {{pod}}": f"sidecar_patterns{WHERE}",
            "boosts: {{state}}, {{pod}}": f"sidecar_boosts{WHERE}",
        },
    ),
    Panel(
        "Fleet",
        "Only in fleet scope: replicas that each sidecar sees, whether Redis answers claims in time, frames decided without "
        "Redis, and claims that Redis rejected.",
        "none",
        {
            "replicas, {{pod}}": f"sidecar_replicas{WHERE}",
            "claims in time, {{pod}}": f"sidecar_claims_in_time{WHERE}",
            "decided alone per second": _rate("sidecar_alone_decisions_total"),
            "rejected per second: {{code}}": _rate("sidecar_rejected_claims_total", "code"),
        },
    ),
    Panel(
        "Partitions",
        "Of the queue, how many are read by each worker, and how many of these can't be used.",
        "none",
        {
            "all": f"max (hand_counter_partitions{WHERE})",
            "read by {{pod}}": f"hand_counter_partitions_read{WHERE}",
            "failing at {{pod}}": f"hand_counter_partitions_failing{WHERE}",
        },
    ),
    Panel(
        "Sinks",
        "Results written and dropped per second; a sink that fails shows as 0.",
        "none",
        {
            "up: {{sink}}, {{pod}}": f"hand_counter_sink_up{WHERE}",
            "written: {{sink}}": _rate("hand_counter_sink_written_total", "sink"),
            "dropped: {{sink}}": _rate("hand_counter_sink_dropped_total", "sink"),
        },
    ),
    Panel(
        "Cameras",
        "Of hand-counter ingest, by state; and whether Redis takes their frames.",
        "none",
        {
            "{{state}}": f"sum by (state) (hand_counter_cameras{WHERE})",
            "Redis, {{pod}}": f"hand_counter_camera_redis_up{WHERE}",
        },
    ),
    Panel(
        "Frames of cameras",
        "Of hand-counter ingest: published, left out because they would be denied, and dropped.",
        "reqps",
        {"{{outcome}}": _rate("hand_counter_camera_frames_total", "outcome")},
    ),
    Panel(
        "Problems",
        "Dead letters, frames dropped unread, retries, deliveries after a crash, invalid limits, invalid calls.",
        "short",
        {
            "dead: {{reason}}": _rate("hand_counter_dead_total", "reason"),
            "dropped unread": f"sum (max by (namespace, shard) (rate(hand_counter_dropped_unread{WHERE}[$__rate_interval])))",
            "retries": _rate("hand_counter_retries_total"),
            "redelivered": _rate("hand_counter_redelivered_total"),
            "invalid limits": _rate("sidecar_invalid_fps_values_total"),
            "invalid calls": _rate("sidecar_invalid_requests_total"),
        },
    ),
    Panel("Hands", "Hands found in the counted frames.", "reqps", {"hands": _rate("hand_counter_hands_total")}),
    Panel(
        "Held",
        "Entries delivered to a worker and not settled yet.",
        "short",
        {"{{pod}}": f"hand_counter_held{WHERE}"},
    ),
    Panel(
        "The console",
        "Pages that are open, and what their one feed asks of Redis and the sidecars, however many they are.",
        "none",
        {
            "pages": f"sum (console_viewers{WHERE})",
            "commands to Redis per second": _rate("console_redis_commands_total"),
            "calls to sidecars per second": _rate("console_sidecar_calls_total"),
            "failed readings per second: {{what}}": _rate("console_errors_total", "what"),
        },
    ),
    Panel(
        "Memory and CPU of the sidecar",
        "Resident memory in MB, and CPU seconds per second.",
        "none",
        {
            "MB, {{pod}}": f"process_resident_memory_bytes{WHERE} / 1e6",
            "CPU": _rate("process_cpu_seconds_total"),
        },
    ),
)


def dashboard() -> dict[str, Any]:
    """Returns the dashboard in Grafana's format, with two graphs per row."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.explanation,
            "datasource": source,
            "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + place), "expr": query, "legendFormat": name, "datasource": source}
                for place, (name, query) in enumerate(panel.queries.items())
            ],
        }
        for number, panel in enumerate(PANELS)
    ]
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        {
            "name": "namespace",
            "type": "query",
            "datasource": source,
            "query": "label_values(hand_counter_redis_up, namespace)",
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]
    return {
        "uid": "hand-counter",
        "title": "hand-counter",
        "tags": ["hand-counter"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": panels,
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    sys.stdout.write("\n")
