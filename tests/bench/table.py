"""The one table that a bench prints."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Row(NamedTuple):
    """A figure with its unit, from several measurements."""

    name: str
    values: Sequence[float]
    unit: str

    @property
    def cells(self) -> tuple[str, str, str, str]:
        spread = f"{_short(min(self.values))} .. {_short(max(self.values))}"
        return self.name, f"{_short(median(self.values))} {self.unit}", spread, str(len(self.values))


def show(rows: Sequence[Row]) -> None:
    """Print it."""
    lines = [("what", "median", "min .. max", "runs"), *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for number, line in enumerate(lines):
        print("  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
