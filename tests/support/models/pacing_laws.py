"""The laws of admissions when limits change and clocks restart."""

from collections.abc import Sequence

from handcounter.pacing.schedule import CREDIT_PERIODS, LATE_WINDOW_S, TOLERANCE_S


def epochs(admissions: Sequence[tuple[float, float, float]]) -> list[list[tuple[float, float, float]]]:
    """Splits a stream's admissions where its clock restarted, that is, where a frame is much older than the newest one."""
    cut: list[list[tuple[float, float, float]]] = []
    newest = float("inf")
    for admission in admissions:
        if not cut or admission[1] < newest - LATE_WINDOW_S:
            cut.append([])
            newest = admission[1]
        cut[-1].append(admission)
        newest = max(newest, admission[1])
    return cut


def over_law(run: Sequence[tuple[float, float, float]]) -> float:
    """Returns by how many seconds the worst window of a run with ascending ts holds too many periods; at most 0.

    Each admission advances the slot by at least a period at its fps. The slot is never after the frame, and at most 1.5
    periods before it. So from frame i to frame j the periods after i sum up to at most ts_j - ts_i + 1.5 / fps_i.
    """
    worst, most, periods = 0.0, float("inf"), 0.0
    for _, ts, fps in run:
        periods += 1.0 / fps - TOLERANCE_S
        worst = max(worst, periods - ts - most)
        most = min(most, CREDIT_PERIODS / fps + periods - ts)
    return worst


def least_gap_s(fps: float) -> float:
    """Returns the real time after which a restarted clock may be served."""
    return 1.0 / fps - TOLERANCE_S if fps > 0.0 else 0.0
