"""How an entry script is served, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass

from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table


@dataclass(frozen=True, repr=False)
class Serving:
    """An entry script that is served; with ``TRITONNB_STABLE_OUTPUT=1`` shown without its addresses.

    Parameters
    ----------
    deployment
        The deployment's name.
    scoring_uri, swagger_uri
        Where callers send, and where the script is described.
    workers, threads
        How many processes, and how many requests each of them runs at once.
    timeout_s
        How long a request may take, in seconds.
    auth
        Whether requests need a key.
    """

    deployment: str
    scoring_uri: str
    swagger_uri: str
    workers: int
    threads: int
    timeout_s: float
    auth: bool

    def _title(self) -> str:
        return f"Entry script of {self.deployment!r}"

    def _rows(self) -> list[tuple[str, str]]:
        addresses = [("Scoring URI", self.scoring_uri), ("Swagger", self.swagger_uri)]
        return [
            *([] if stable_output() else addresses),
            ("Workers", str(self.workers)),
            *([("Threads of each", str(self.threads))] if self.threads > 1 else []),
            ("Time limit", f"{self.timeout_s:g} s"),
            ("Key", "asked for" if self.auth else "not asked for"),
        ]

    def __repr__(self) -> str:
        return text_table(self._title(), self._rows())

    def _repr_html_(self) -> str:
        return table(self._title(), ("Property", "Value"), self._rows())
