"""What to make of a report, in words: the point to choose, what limits it, what to change in config.pbtxt.

Every sentence is derived from measured points and says from which. Nothing is guessed that a further measurement
could tell: then that measurement is what is advised.
"""

from __future__ import annotations

import difflib
import html
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tritonnb.measure.changes import changes_of
from tritonnb.measure.knee import fastest, knee, next_load
from tritonnb.measure.limits import limit_of
from tritonnb.measure.rows import milliseconds, number
from tritonnb.render.text import stable_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report


@dataclass(frozen=True, repr=False)
class ConfigChange:
    """A model's configuration as it is and as it is advised. Nothing is written; the repr is the difference.

    Parameters
    ----------
    model
        The model.
    before, after
        As the text of a ``config.pbtxt``; the first as the server completed it.
    """

    model: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The difference, as ``diff -u`` shows it; empty where nothing is to be changed."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), "as served", "as advised", lineterm=""
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.diff or f"Nothing to change in the config.pbtxt of {self.model}."


@dataclass(frozen=True, repr=False)
class Advice:
    """A recommendation.

    Parameters
    ----------
    report
        What it is derived from.
    p95_limit_us
        The limit that was asked for, in microseconds; None for none.
    best
        The fastest point within the limit; None where no point keeps it.
    knee
        Where more load begins to cost more latency than it brings throughput; None where no point was answered well.
    limited_by
        What limits the best point, else the knee: ``"queue"``, ``"compute"``, ``"network"`` or ``"client"``; empty
        where the server keeps no account.
    sentences
        The recommendation, and the reasons.
    changes
        What to change in the model's configuration: Triton's keys with plain values.
    """

    report: Report
    p95_limit_us: float | None
    best: Point | None
    knee: Point | None
    limited_by: str
    sentences: tuple[str, ...]
    changes: Mapping[str, Any]

    def config_change(self) -> ConfigChange:
        """Return the changes as the texts of ``config.pbtxt`` before and after. No file is read or written.

        Raises
        ------
        ModelConfigError
            The server's configuration has fields that the installed tritonclient does not know.
        """
        from tritonnb.repository import pbtxt  # noqa: PLC0415  (gRPC's import, for those who ask)

        before = pbtxt.from_json(self.report.config)
        after = pbtxt.merge(before, self.changes)
        return ConfigChange(self.report.model, pbtxt.to_text(before), pbtxt.to_text(after))

    def _title(self) -> str:
        # The limit is left out too: a time in an output is what tests of notebooks look for.
        limit = (
            "" if self.p95_limit_us is None or stable_output() else f", p95 within {milliseconds(self.p95_limit_us)} ms"
        )
        return f"Recommendation for {self.report.model}{limit}"

    def __repr__(self) -> str:
        sentences = () if stable_output() else self.sentences
        return "\n".join([self._title(), *(f"  {sentence}" for sentence in sentences)])

    def _repr_html_(self) -> str:
        sentences = () if stable_output() else self.sentences
        return "".join(
            [
                f"<p><b>{html.escape(self._title())}</b></p>",
                *(f"<p>{html.escape(sentence)}</p>" for sentence in sentences),
            ]
        )


def recommend(report: Report, p95_limit_us: float | None = None) -> Advice:
    """Derive a recommendation from a report.

    Parameters
    ----------
    report
        What was measured.
    p95_limit_us
        The p95 latency that must be kept, in microseconds; None for none.
    """
    best, at_knee = fastest(report.points, p95_limit_us), knee(report.points)
    chosen = best or at_knee
    if chosen is None:
        told = "No load was answered without a failed request: there is nothing to recommend."
        return Advice(report, p95_limit_us, None, None, "", (told,), {})
    limit = limit_of(chosen)
    within = tuple(p for p in report.points if p.latency and p.latency.p95_us <= (p95_limit_us or p.latency.p95_us))
    changes, reasons = changes_of(replace(report, points=within), best, limit.by) if best else ({}, ())
    sentences = (
        *_choice(report, p95_limit_us, best),
        *_about_the_knee(report, at_knee),
        *((f"What limits it: {limit.why}",) if limit.by else ()),
        *reasons,
        *_doubts(chosen),
    )
    return Advice(report, p95_limit_us, best, at_knee, limit.by, sentences, changes)


def _choice(report: Report, p95_limit_us: float | None, best: Point | None) -> list[str]:
    if best is not None:
        within = "" if p95_limit_us is None else f" within p95 {milliseconds(p95_limit_us)} ms"
        return [f"Most throughput{within}: {report.label(best)}, {_figures(report, best)}."]
    nearest = min((p for p in report.points if p.latency), key=lambda p: p.latency.p95_us if p.latency else 0.0)
    limit, at = milliseconds(p95_limit_us or 0.0), report.label(nearest)
    told = f"No point keeps p95 within {limit} ms; the nearest is {at}, {_figures(report, nearest)}."
    return [told, "Measure smaller batches and lower loads, if there are any."]


def _about_the_knee(report: Report, at_knee: Point | None) -> list[str]:
    if at_knee is None:
        return []
    told = f"The knee is at {report.label(at_knee)}, {_figures(report, at_knee)}"
    beyond = next_load(report.points, at_knee)
    if beyond is None or at_knee.latency is None or beyond.latency is None:
        return [f"{told}; no higher load was measured, so it may lie further up."]
    throughput = beyond.inferences_per_s / at_knee.inferences_per_s - 1
    latency = beyond.latency.mean_us / at_knee.latency.mean_us - 1
    more = f"{throughput:+.0%} throughput and {latency:+.0%} mean latency"
    return [f"{told}; the next load, {report.label(beyond)}, brings {more}."]


def _doubts(chosen: Point) -> list[str]:
    if chosen.stability and not chosen.stability.stable:
        return ["This point did not settle: measure it again with longer windows, on a quieter machine."]
    return []


def _figures(report: Report, point: Point) -> str:
    p95 = "-" if point.latency is None else milliseconds(point.latency.p95_us)
    return f"{number(point.inferences_per_s)} {report.unit}/s at p95 {p95} ms"
