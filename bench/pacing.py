"""Achieved against configured fps by four rules; draws docs/figures/pacing.svg.

    python -m bench.pacing

A 30 fps camera whose frames jitter by 10 % of their distance, limited to 0.5 to 30 fps, for ten simulated minutes each.

- min-gap: a frame is admitted a period after the last admitted one (``--pacing min-gap``).
- GCRA without credit: the generic cell rate algorithm with a tolerance of 0, like a bucket that holds one token.
- fixed window: a counter per second, as with INCR and EXPIRE; below 1 fps, a window of one period.
- ours: GCRA with 1.5 periods of credit for lateness (handcounter/pacing/schedule.py).

The first two are the same rule, as the figures show; both are listed because both are in use.
"""

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.chart import Axis, Line, line_chart
from handcounter.pacing.schedule import TOLERANCE_S, Pacing, Schedule, decide

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "pacing.svg"
SOURCE_FPS = 30.0
JITTER = 0.1
SECONDS = 600.0
SHOWN = (0.5, 1.0, 2.0, 5.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 25.0, 28.0, 30.0)

Rule = Callable[[float], bool]


def by_schedule(fps: float, pacing: Pacing) -> Rule:
    """Applies the sidecar's own rule."""
    schedule: Schedule | None = None

    def admit(ts: float) -> bool:
        nonlocal schedule
        decision = decide(schedule, ts, fps, ts, pacing)
        schedule = decision.schedule
        return decision.admitted

    return admit


def gcra_without_credit(fps: float) -> Rule:
    """Compares with the theoretical arrival time; the only tolerance is for rounding."""
    arrival = -math.inf

    def admit(ts: float) -> bool:
        nonlocal arrival
        if ts < arrival - TOLERANCE_S:
            return False
        arrival = max(ts, arrival) + 1.0 / fps
        return True

    return admit


def fixed_window(fps: float) -> Rule:
    """Counts frames in each window, from zero."""
    length = max(1.0, 1.0 / fps)
    window, count = -1.0, 0

    def admit(ts: float) -> bool:
        nonlocal window, count
        if ts // length != window:
            window, count = ts // length, 0
        if count >= fps * length - TOLERANCE_S:
            return False
        count += 1
        return True

    return admit


RULES: dict[str, Callable[[float], Rule]] = {
    "ours": lambda fps: by_schedule(fps, Pacing.GCRA),
    "min-gap": lambda fps: by_schedule(fps, Pacing.MIN_GAP),
    "GCRA without credit": gcra_without_credit,
    "fixed window": fixed_window,
}
_DASHES = {"GCRA without credit": "2 7", "fixed window": "7 4"}


def camera() -> Iterator[float]:
    """Returns the frames of the camera."""
    dice = random.Random(1)
    for number in range(int(SECONDS * SOURCE_FPS)):
        yield 1000.0 + (number + JITTER * dice.uniform(-1.0, 1.0)) / SOURCE_FPS


def achieved(fps: float) -> dict[str, float]:
    """Returns what each rule achieves at a limit, frames per second."""
    frames = list(camera())
    return {name: sum(map(rule(fps), frames)) / SECONDS for name, rule in RULES.items()}


def main() -> None:
    """Writes the figure; prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to write the SVG")
    options = parser.parse_args()
    limits = [number / 4 for number in range(2, 121)]
    rates = {fps: achieved(fps) for fps in limits}
    lines = [Line(name, [(fps, rates[fps][name]) for fps in limits], _DASHES.get(name, "")) for name in RULES]
    title = f"A {SOURCE_FPS:.0f} fps camera, limited: achieved frames per second"
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    options.figure.write_text(
        line_chart(title, Axis("configured fps", 30.0, 5.0), Axis("achieved fps", 30.0, 5.0), lines)
    )
    print(f"{'configured':>10}" + "".join(f"{name:>22}" for name in RULES))
    for fps in SHOWN:
        print(f"{fps:10.1f}" + "".join(f"{rates[fps][name]:22.2f}" for name in RULES))
    worst = {name: max(abs(rates[fps][name] / fps - 1.0) for fps in limits) for name in RULES}
    print(f"{'worst':>10}" + "".join(f"{worst[name]:22.1%}" for name in RULES))
    print(json.dumps({"bench": "pacing", "worst_error": worst}))


if __name__ == "__main__":
    main()
