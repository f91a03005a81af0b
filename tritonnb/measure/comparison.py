"""Two reports side by side: what a change has brought."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonnb.errors import SpecError
from tritonnb.measure.rows import milliseconds, number
from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonnb.measure.chart import Chart
    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report

_LOAD = ("batch_size", "concurrency", "request_rate", "instances")
_LATENCIES = ("p50_us", "p95_us", "p99_us")


@dataclass(frozen=True, repr=False)
class Comparison:
    """The points that two reports have in common.

    Parameters
    ----------
    before, after
        The reports.
    pairs
        The points of the same load, before and after.
    differences
        What else differs between the reports, such as versions or the machine, a sentence each.
    """

    before: Report
    after: Report
    pairs: tuple[tuple[Point, Point], ...]
    differences: tuple[str, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One mapping for each load: both values and the ratio after / before; None where nothing was answered."""
        rows = []
        for before, after in self.pairs:
            values: dict[str, tuple[float | None, float | None]]
            values = {"inferences_per_s": (before.inferences_per_s, after.inferences_per_s)}
            values |= {name: _latencies(before, after, name) for name in _LATENCIES}
            row: dict[str, Any] = {name: getattr(after, name) for name in _LOAD}
            for name, (then, now) in values.items():
                row |= {f"{name}_before": then, f"{name}_after": now, f"{name}_ratio": _ratio(then, now)}
            rows.append(row)
        return rows

    def figure(self) -> Chart:
        """Return throughput and p95 latency of each load, before and after, as bars."""
        from tritonnb.measure.charts import comparison_chart  # noqa: PLC0415  (imports matplotlib)

        return comparison_chart(self)

    def _title(self) -> str:
        loads = f"{len(self.pairs)} load{'s' * (len(self.pairs) != 1)}"
        return f"Before and after: {self.before.model}, {loads} in common"

    def _shown(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        if stable_output():
            return ("Load",), [(self.after.label(after),) for _, after in self.pairs]
        return ("Load", f"{self.after.unit.capitalize()}/s", "p50 ms", "p95 ms", "p99 ms"), [
            (
                self.after.label(after),
                _change(before.inferences_per_s, after.inferences_per_s),
                *(_change(*_latencies(before, after, name), milliseconds) for name in _LATENCIES),
            )
            for before, after in self.pairs
        ]

    def __repr__(self) -> str:
        columns, rows = self._shown()
        notes = () if stable_output() else self.differences
        return "\n".join([text_table(self._title(), rows, columns), *notes])

    def _repr_html_(self) -> str:
        columns, rows = self._shown()
        if stable_output():
            return table(self._title(), columns, rows)
        from tritonnb.measure.chart import image  # noqa: PLC0415  (imports matplotlib)

        notes = "".join(f"<p>{html.escape(text)}</p>" for text in self.differences)
        return f"{table(self._title(), columns, rows)}\n{notes}\n{image(self.figure())}"


def compare(before: Report, after: Report) -> Comparison:
    """Return what has changed from one report to another.

    Parameters
    ----------
    before, after
        The reports. Points are matched by batch size and load; by the count of instances where both sides
        measured several.

    Raises
    ------
    SpecError
        They have no load in common.
    """
    by_instances = before.several_instances and after.several_instances

    def load(point: Point) -> tuple[object, ...]:
        return (point.batch_size, point.concurrency, point.request_rate, point.instances if by_instances else None)

    then = {load(point): point for point in before.points}
    pairs = tuple((then[load(point)], point) for point in after.points if load(point) in then)
    if not pairs:
        raise SpecError(
            "The reports have no load in common.",
            hint=f"before: {_loads(before)}; after: {_loads(after)}.",
        )
    return Comparison(before, after, pairs, tuple(_differences(before, after)))


def _loads(report: Report) -> str:
    return " | ".join(map(report.label, report.points)) or "no point"


def _differences(before: Report, after: Report) -> list[str]:
    """Return what makes two reports less comparable than one would think."""
    named = {
        "model": ({"name": before.model}, {"name": after.model}),
        "protocol": ({"name": before.protocol}, {"name": after.protocol}),
        "load": ({"mode": before.mode}, {"mode": after.mode}),
        "setting": (before.settings, after.settings),
        "configuration": (before.config, after.config),
        "versions": (before.versions, after.versions),
        "machine": (before.machine, after.machine),
    }
    return [
        f"The {what} differs: {key} was {then.get(key, 'unknown')}, is {now.get(key, 'unknown')}."
        for what, (then, now) in named.items()
        for key in dict.fromkeys((*then, *now))
        if then.get(key) != now.get(key)
    ]


def _latencies(before: Point, after: Point, name: str) -> tuple[float | None, float | None]:
    then, now = before.latency, after.latency
    return (getattr(then, name) if then else None, getattr(now, name) if now else None)


def _change(before: float | None, after: float | None, written: Callable[[float | None], str] = number) -> str:
    """Return both values and by how much the second is more."""
    shown = f"{written(before)} → {written(after)}"
    ratio = _ratio(before, after)
    return shown if ratio is None else f"{shown} ({ratio - 1:+.0%})"


def _ratio(before: float | None, after: float | None) -> float | None:
    return after / before if before and after is not None else None
