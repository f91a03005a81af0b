"""Results as HTML, out of the templates beside this module."""

from __future__ import annotations

from dataclasses import dataclass
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


def render(template: str, **values: object) -> str:
    """Return a template filled in; every value is escaped, but for one that brings its own ``__html__``."""
    return _environment().get_template(template).render(**values)


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
    return render("table.html.j2", caption=caption, columns=columns, rows=rows)


@dataclass(frozen=True)
class Badge:
    """A state as a word, a shape and a colour.

    Parameters
    ----------
    word
        The state, in the words of Triton or of a deployment.
    """

    word: str

    def __str__(self) -> str:
        return f"{_SHAPES.get(self.word.lower(), ('◌', ''))[0]} {self.word}"

    def __html__(self) -> str:
        return render("badge.html.j2", text=str(self), kind=_SHAPES.get(self.word.lower(), ("", "busy"))[1])


# A shape each, because not everybody tells red from green.
_SHAPES = {
    "ready": ("●", "ok"),
    "degraded": ("▲", "warn"),
    "failed": ("■", "bad"),
    "unavailable": ("■", "bad"),
    "stopped": ("○", "off"),
}


def classes_table(
    caption: str, groups: Sequence[Sequence[tuple[str, int, str, float]]], pictures: Sequence[str] = ()
) -> str:
    """Return a captioned table of the best classes, each with a bar.

    Parameters
    ----------
    caption
        What the table shows, in a line.
    groups
        Of each of a batch the classes: name, index, score, and the bar's length from 0 to 1.
    pictures
        As many as groups, JPEG in base64; none where there are none.
    """
    first_column = "Picture" if pictures else ("Row" if len(groups) > 1 else "")
    return (
        _environment()
        .get_template("classes.html.j2")
        .render(caption=caption, first_column=first_column, groups=groups, pictures=pictures)
    )


def shares_table(caption: str, columns: Sequence[str], rows: Sequence[tuple[str, str, float]], note: str = "") -> str:
    """Return a captioned table of the parts of a whole.

    Parameters
    ----------
    caption
        What the table shows, in a line.
    columns
        The three column headers.
    rows
        Each part's name, its value, and its share of the whole from 0 to 1, which is drawn as a bar.
    note
        A sentence to stand below; empty for none.
    """
    template = _environment().get_template("shares.html.j2")
    return template.render(caption=caption, columns=columns, rows=rows, note=note)
