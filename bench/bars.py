"""Draws stacked horizontal bars as SVG, readable on light and dark pages. Pure."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 760, 96, 70, 48
BAR, GAP, LEGEND = 30, 16, 52

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .s0 { fill: #0969da } .s1 { fill: #1a7f37 } .s2 { fill: #8250df }
  .s3 { fill: #cf222e } .s4 { fill: #bf8700 } .s5 { fill: #6e7781 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .s0 { fill: #58a6ff } .s1 { fill: #56d364 } .s2 { fill: #d2a8ff }
    .s3 { fill: #ff7b72 } .s4 { fill: #e3b341 } .s5 { fill: #9198a1 }
  }
"""


def stacked_bars(title: str, unit: str, bars: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the chart as the text of an SVG file: a bar for each name, with its parts in the order of the first bar's."""
    parts = list(next(iter(bars.values())))
    longest = max(sum(bar.values()) for bar in bars.values())
    across, height = WIDTH - LEFT - RIGHT, TOP + len(bars) * (BAR + GAP) + LEGEND
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
    ]
    for row, (name, bar) in enumerate(bars.items()):
        x, y = float(LEFT), TOP + row * (BAR + GAP)
        lines.append(f'<text x="{LEFT - 10}" y="{y + BAR / 2 + 5:.0f}" text-anchor="end">{escape(name)}</text>')
        for number, part in enumerate(parts):
            width = bar[part] / longest * across
            lines.append(f'<rect class="s{number}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"/>')
            x += width
        lines.append(f'<text x="{x + 6:.1f}" y="{y + BAR / 2 + 5:.0f}">{sum(bar.values()):.0f} {escape(unit)}</text>')
    for number, part in enumerate(parts):
        x, y = LEFT + number * (WIDTH - LEFT) / len(parts), height - 22
        lines.append(f'<rect class="s{number}" x="{x:.0f}" y="{y - 11}" width="12" height="12"/>')
        lines.append(f'<text x="{x + 18:.0f}" y="{y}">{escape(part)}</text>')
    return "\n".join([*lines, "</svg>", ""])
