"""Results as text: a title and aligned columns."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Characters of a bar that stands for the whole.
_BAR = 20


def text_table(title: str, rows: Sequence[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """Return a title and, indented below it, rows with aligned columns.

    Parameters
    ----------
    title
        What the table shows, in a line.
    rows
        As many values each as there are columns.
    columns
        The column headers; none where the values speak for themselves.
    """
    cells = [[str(value) for value in row] for row in ([columns, *rows] if columns and rows else rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])


def bar(share: float) -> str:
    """Return a bar as long as a share of the whole, 0 to 1."""
    return "█" * round(share * _BAR)


def stable_output() -> bool:
    """Tell whether what changes from run to run (ports, process numbers, ages, times) is to be left out of outputs."""
    # Read when something is shown, so that a notebook can set it for itself.
    return os.environ.get("TRITONNB_STABLE_OUTPUT") == "1"
