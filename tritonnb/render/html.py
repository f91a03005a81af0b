"""Results as HTML, out of the templates beside this module."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # Only what is shown in a notebook needs jinja2; the command line and the tests of plain results don't.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    return Environment(
        loader=PackageLoader("tritonnb.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a captioned table with row and column headers; every value is escaped.

    Parameters
    ----------
    caption
        What the table shows, in a line.
    columns
        The column headers.
    rows
        As many values each as there are columns; the first names the row.
    """
    return _environment().get_template("table.html.j2").render(caption=caption, columns=columns, rows=rows)
