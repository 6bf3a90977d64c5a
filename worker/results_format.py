"""How ``hand-counter results`` prints a result: for people, as CSV or as JSON. Pure."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from process.csv_cells import cell_of

COLUMNS = (
    "written_at", "stream_name", "ts", "hand_count", "hand_count_smoothed", "queue_age", "backend", "width", "height",
    "entry_id",
)  # fmt: skip
"""Of the CSV."""

Formatter = Callable[[str, str], str]
"""Takes the id of an entry of the results and the JSON that it holds; returns a line."""


def header(format_name: str) -> str:
    """Returns the line before the first result; empty if there is none."""
    return _csv_line(COLUMNS) if format_name == "csv" else ""


def formatter(format_name: str) -> Formatter:
    """Returns what makes a line of a result: text, csv or jsonl."""
    return {"text": _text, "csv": _csv, "jsonl": lambda _id, result: result}[format_name]


def _text(entry_id: str, result: str) -> str:
    row = _row(entry_id, result)
    hands = "1 hand " if row["hand_count"] == 1 else f"{row['hand_count']} hands"
    age = "" if row["queue_age"] is None else f"  {row['queue_age']:.3f} s old"
    return f"{row['written_at']}  {hands}  {row['stream_name']}  ts {row['ts']}{age}"


def _csv(entry_id: str, result: str) -> str:
    row = _row(entry_id, result)
    return _csv_line([row[column] for column in COLUMNS])


def _csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cell_of(each) if isinstance(each, str) else each for each in values)
    return line.getvalue()


def _row(entry_id: str, result: str) -> Mapping[str, Any]:
    fields = json.loads(result)
    written_at = datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000.0, UTC)
    return {
        "hand_count_smoothed": None,
        **fields,
        **fields["image"],
        "written_at": written_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "queue_age": fields["timings"]["queue_age"],
    }
