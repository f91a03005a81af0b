"""``%triton_help``: all magics at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonnb.magics.options import PARSERS

if TYPE_CHECKING:
    from collections.abc import Sequence

_TITLE = "The magics of tritonnb; each shows its options with --help"


@dataclass(frozen=True, repr=False)
class Overview:
    """Every magic with what it does.

    Parameters
    ----------
    rows
        The magic and a sentence.
    """

    rows: Sequence[tuple[str, str]]

    @classmethod
    def of_all(cls) -> Overview:
        """Return all magics, in the order in which they are needed."""
        return cls(tuple((parser.prog, parser.description or "") for parser in PARSERS.values()))

    def __repr__(self) -> str:
        from tritonnb.render.text import text_table  # noqa: PLC0415  (only where it is shown)

        return text_table(_TITLE, self.rows)

    def _repr_html_(self) -> str:
        from tritonnb.render.html import table  # noqa: PLC0415  (only where it is shown)

        return table(_TITLE, ("Magic", "What it does"), self.rows)
