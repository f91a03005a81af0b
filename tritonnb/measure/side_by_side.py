"""Several reports in one table and one chart: which way of serving is the fastest, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonnb.errors import SpecError
from tritonnb.measure.knee import load_value
from tritonnb.measure.rows import milliseconds, number
from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.measure.chart import Chart
    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report

_LATENCIES = ("p50_us", "p95_us", "p99_us")


@dataclass(frozen=True, repr=False)
class SideBySide:
    """Reports of different things under the same loads.

    Parameters
    ----------
    reports
        By the name that each is shown under.
    loads
        The loads that all of them have in common, the lowest first: for each the points, in the order of the reports.
    """

    reports: Mapping[str, Report]
    loads: tuple[tuple[Point, ...], ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat mapping for each load and report; times in microseconds, None where nothing was answered."""
        return [
            {
                "name": name,
                "concurrency": point.concurrency,
                "request_rate": point.request_rate,
                "requests_per_s": point.requests_per_s,
                **{field: getattr(point.latency, field, None) for field in _LATENCIES},
                "failed": point.failed,
            }
            for points in self.loads
            for name, point in zip(self.reports, points, strict=True)
        ]

    def figure(self) -> Chart:
        """Return throughput, and p50 and p95 latency, at each load, as groups of bars."""
        from tritonnb.measure.charts import side_by_side_chart  # noqa: PLC0415  (imports matplotlib)

        return side_by_side_chart(self)

    def _title(self) -> str:
        loads = f"{len(self.loads)} load{'s' * (len(self.loads) != 1)}"
        return f"Side by side: {len(self.reports)} reports, {loads} in common"

    def _shown(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        load = "Concurrency" if self.loads[0][0].request_rate is None else "Requests/s asked"
        stable = stable_output()
        columns = (load, "", *(() if stable else ("Requests/s", "p50 ms", "p95 ms", "p99 ms")), "Failed")
        return columns, [
            (
                points[0].load_text,
                name,
                *(() if stable else _measured(point)),
                "none" if not point.failed else "some" if stable else str(point.failed),
            )
            for points in self.loads
            for name, point in zip(self.reports, points, strict=True)
        ]

    def __repr__(self) -> str:
        columns, rows = self._shown()
        return text_table(self._title(), rows, columns)

    def _repr_html_(self) -> str:
        columns, rows = self._shown()
        shown = table(self._title(), columns, rows)
        if stable_output():
            return shown
        from tritonnb.measure.chart import image  # noqa: PLC0415  (imports matplotlib)

        return f"{shown}\n{image(self.figure())}"


def side_by_side(reports: Mapping[str, Report]) -> SideBySide:
    """Put reports side by side, at the loads that all of them have in common.

    Parameters
    ----------
    reports
        By the name to show each under, such as ``{"Triton": ..., "Triton behind score.py": ...}``; of a model or of an
        entry script, so requests are what is counted.

    Raises
    ------
    SpecError
        There is no report, they have no load in common, or one has several points of the same load.
    """
    if not reports:
        raise SpecError("There is no report.", hint="side_by_side({'before': report, 'after': report}).")
    by_load = {name: _by_load(name, report) for name, report in reports.items()}
    first, *others = by_load.values()
    common = [load for load in first if all(load in other for other in others)]
    if not common:
        raise SpecError(
            "The reports have no load in common.",
            hint="; ".join(f"{name}: {' | '.join(loads) or 'no point'}" for name, loads in by_load.items()) + ".",
        )
    loads = sorted((tuple(points[load] for points in by_load.values()) for load in common), key=_load_of)
    return SideBySide(dict(reports), tuple(loads))


def _by_load(name: str, report: Report) -> dict[str, Point]:
    by_load: dict[str, Point] = {}
    for point in report.points:
        load = f"{'requests/s' if point.concurrency is None else 'concurrency'} {point.load_text}"
        if load in by_load:
            raise SpecError(
                f"The report {name!r} has several points at {load}.",
                hint="side by side each has one batch size and one count of instances: measure it so.",
            )
        by_load[load] = point
    return by_load


def _load_of(points: tuple[Point, ...]) -> float:
    return load_value(points[0])


def _measured(point: Point) -> tuple[str, ...]:
    latencies = (getattr(point.latency, field, None) for field in _LATENCIES)
    return (number(point.requests_per_s), *map(milliseconds, latencies))
