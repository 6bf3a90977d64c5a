import pytest

from worker.demo.plan import CAMERAS, DEFAULT_FPS, PHASES, Limit, Phase, after, limit_of


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, Limit(DEFAULT_FPS, "--fps")),
        ({"cam2": "9"}, Limit(DEFAULT_FPS, "--fps")),
        ({"cam1": "0.5", "*": "3"}, Limit(0.5, "cam1")),
        ({"cam1": "0", "*": "3"}, Limit(0.0, "cam1")),
        ({"cam2": "9", "*": "3"}, Limit(3.0, "*")),
    ],
)
def test_limit_of(fields: dict[str, str], limit: Limit) -> None:
    """A stream's own field precedes the wildcard, and that the default."""
    assert limit_of("cam1", fields) == limit


def test_changes_add_up() -> None:
    """The hash after some phases has all of their changes; a phase's commands are redis-cli's."""
    phases = [Phase("one", {"a": "1", "b": "2"}), Phase("two", {"a": None, "*": "3"})]
    assert after(phases[:1]) == {"a": "1", "b": "2"}
    assert after(phases) == {"b": "2", "*": "3"}
    assert phases[1].commands("key") == ["HDEL key 'a'", "HSET key '*' 3"]


def test_the_plan_shows_all_kinds_of_changes() -> None:
    """The phases raise, cut and pause, return to the default and use the wildcard, at a load for a small machine."""
    shown, before = set(), {camera.stream_name: limit_of(camera.stream_name, {}) for camera in CAMERAS}
    for number in range(1, len(PHASES) + 1):
        fields = after(PHASES[:number])
        now = {camera.stream_name: limit_of(camera.stream_name, fields) for camera in CAMERAS}
        for name, limit in now.items():
            shown |= {"raise"} if limit.fps > before[name].fps > 0 else set()
            shown |= {"cut"} if 0 < limit.fps < before[name].fps else set()
            shown |= {"pause"} if limit.fps == 0 else set()
            shown |= {"wildcard"} if limit.set_by == "*" else set()
            shown |= {"default again"} if limit.set_by == "--fps" != before[name].set_by else set()
        assert sum(min(now[camera.stream_name].fps, camera.fps) for camera in CAMERAS) <= 12
        assert PHASES[number - 1].changes
        before = now
    assert shown == {"raise", "cut", "pause", "wildcard", "default again"}
    assert {camera.fps for camera in CAMERAS} == {15.0, 25.0, 30.0}
