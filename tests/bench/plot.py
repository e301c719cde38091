"""The table as a picture: one bar a row with its spread, rows of one unit on one scale. SVG by hand, no library."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median

from tests.bench.table import Row

WIDTH, LEFT, BAR, ROW, TOP = 1_100, 560, 420, 22, 40


def write_plot(folder: Path, rows: Sequence[Row]) -> Path:
    """Write it and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "streaming.svg"
    path.write_text(draw(rows), encoding="utf-8")
    return path


def draw(rows: Sequence[Row]) -> str:
    """Return the picture."""
    scales = {row.unit: max(max(other.values) for other in rows if other.unit == row.unit) or 1.0 for row in rows}
    lines = [_row(TOP + number * ROW, row, scales[row.unit]) for number, row in enumerate(rows)]
    height = TOP + len(rows) * ROW + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="10" y="22" font-size="15">make bench: median, and smallest to largest</text>{"".join(lines)}</svg>\n'
    )


def _row(top: int, row: Row, scale: float) -> str:
    width = [BAR * min(value, scale) / scale for value in (median(row.values), min(row.values), max(row.values))]
    color = "#2a7" if "Parley" in row.name else "#89a"
    return (
        f'<text x="{LEFT - 8}" y="{top + 12}" text-anchor="end">{escape(row.name.strip())}</text>'
        f'<rect x="{LEFT}" y="{top + 2}" width="{width[0]:.1f}" height="12" fill="{color}"/>'
        f'<line x1="{LEFT + width[1]:.1f}" x2="{LEFT + width[2]:.1f}" y1="{top + 8}" y2="{top + 8}" stroke="#333"/>'
        f'<text x="{LEFT + width[2] + 6:.1f}" y="{top + 12}">{escape(row.cells[1])}</text>'
    )
