"""Draws line charts as SVG, readable on light and dark pages. Pure."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 470
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 48, 104

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .grid { stroke: #8b949e; stroke-opacity: 0.25 }
  .axis { stroke: #57606a }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round }
  .s0 { stroke: #0969da; stroke-width: 3 } .s1 { stroke: #cf222e } .s2 { stroke: #1a7f37 } .s3 { stroke: #8250df }
  .s4 { stroke: #6e7781 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .axis { stroke: #8d96a0 }
    .s0 { stroke: #58a6ff } .s1 { stroke: #ff7b72 } .s2 { stroke: #56d364 } .s3 { stroke: #d2a8ff } .s4 { stroke: #9198a1 }
  }
"""


class Line(NamedTuple):
    """One line of a chart, and its name in the legend."""

    name: str
    points: Sequence[tuple[float, float]]
    dash: str = ""
    """In the format of SVG's stroke-dasharray; empty for a solid line."""


class Axis(NamedTuple):
    """An axis, which runs from 0."""

    label: str
    most: float
    step: float
    """From mark to mark."""

    def marks(self) -> list[float]:
        """Returns the values that are marked."""
        return [number * self.step for number in range(int(self.most / self.step + 1e-9) + 1)]


def line_chart(title: str, x_axis: Axis, y_axis: Axis, lines: Sequence[Line]) -> str:
    """Returns the chart as the text of an SVG file."""
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / x_axis.most * across, TOP + down - min(y, y_axis.most) / y_axis.most * down

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
    ]
    for mark in x_axis.marks():
        x, _ = place(mark, 0.0)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + down}"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + down + 18}" text-anchor="middle">{mark:g}</text>')
    for mark in y_axis.marks():
        _, y = place(0.0, mark)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + across}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{TOP + down}H{LEFT + across}"/>')
    parts.append(
        f'<text x="{LEFT + across / 2}" y="{TOP + down + 38}" text-anchor="middle">{escape(x_axis.label)}</text>'
    )
    middle = TOP + down / 2
    parts.append(
        f'<text transform="rotate(-90 16 {middle})" x="16" y="{middle}" text-anchor="middle">{escape(y_axis.label)}</text>'
    )
    for number, line in reversed(list(enumerate(lines))):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in line.points))
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        parts.append(f'<path class="line s{number}"{dash} d="M{path}"/>')
        x, y = LEFT + number % 2 * 350, HEIGHT - 46 + number // 2 * 18
        parts.append(f'<path class="line s{number}"{dash} d="M{x} {y}h34"/>')
        parts.append(f'<text x="{x + 42}" y="{y + 4}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
