import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.publish.source import Kind, kind_of
from worker.publish.timeline import Timeline

START = 1_700_000_000.0


@given(
    passes=st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20), max_size=4),
    step=st.floats(0.001, 1.0),
)
def test_capture_times_only_increase(passes: list[list[float]], step: float) -> None:
    """Whatever positions a container claims, capture times begin at the start and increase, over loops too."""
    timeline = Timeline(START, step)
    times = []
    for positions in passes:
        times += [timeline.ts(position) for position in positions]
        timeline.loop()
    assert times[:1] in ([], [START])
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


@given(
    gaps=st.lists(st.floats(0.001, 5.0), min_size=1, max_size=30),
    first=st.floats(0, 1000),
    step=st.floats(0.001, 1.0),
    loops=st.integers(1, 4),
)
def test_capture_times_follow_the_film(gaps: list[float], first: float, step: float, loops: int) -> None:
    """Within a pass the gaps are the film's own, and from a pass to the next there is exactly one step."""
    positions = list(itertools.accumulate(gaps, initial=first))
    timeline = Timeline(START, step)
    times = []
    for _ in range(loops):
        times += [timeline.ts(position) for position in positions]
        timeline.loop()
    expected = ([*gaps, step] * loops)[:-1]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("positions", [[0.0, 0.0, 0.0], [math.nan] * 3, [5.0, 4.0, 3.0]])
def test_a_film_without_times_gets_even_ones(positions: list[float]) -> None:
    """Positions that stand still, go back or aren't there count as one nominal step each."""
    timeline = Timeline(START, 0.04)
    assert [timeline.ts(position) for position in positions] == pytest.approx([START, START + 0.04, START + 0.08])


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", Kind.WEBCAM),
        ("12", Kind.WEBCAM),
        ("rtsp://camera.local/stream", Kind.CAMERA_URL),
        ("rtsps://user:word@camera.local:8322/stream", Kind.CAMERA_URL),
        ("http://camera.local/mjpeg", Kind.CAMERA_URL),
        ("https://host/films/film.MP4?token=1", Kind.FILM),
        ("film.mp4", Kind.FILM),
        ("no such thing", Kind.FILM),
        ("synthetic:", Kind.SYNTHETIC),
        ("synthetic:fps=15,hands=2", Kind.SYNTHETIC),
    ],
)
def test_kinds(source: str, kind: Kind) -> None:
    """What a source is shows in how it is written."""
    assert kind_of(source) is kind


def test_a_folder_is_known_by_being_one(tmp_path: Path) -> None:
    """A path that is a folder is a folder of pictures."""
    assert kind_of(str(tmp_path)) is Kind.FOLDER


@pytest.mark.parametrize(
    "source",
    ["", "rtp://camera/stream", "rtsp://", "rtsp:///stream", "rtsp://camera:port/x", "rtsp://camera:0/x",
     "rtsp://camera:70000/x", "100", "9" * 5000, "synthetic:fps=0", "synthetic:hands=9"],
)  # fmt: skip
def test_nonsense_is_refused(source: str) -> None:
    """What can't be any source is a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        kind_of(source)
