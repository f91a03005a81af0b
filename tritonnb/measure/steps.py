"""The steps of a sweep: what is sent in each, one after the other, until all are done or there is a reason to end."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil

from tritonnb.errors import ServerUnreachableError, SpecError
from tritonnb.measure.load import Load, check_number
from tritonnb.measure.measuring import PointMeasurement
from tritonnb.render.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report
    from tritonnb.measure.server_side import Counters
    from tritonnb.measure.stability import Rule

_LEAST_S, _MOST_S = 1e-3, 1e6
_INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Step:
    """One load to measure.

    Parameters
    ----------
    load
        How it is sent.
    requests
        The requests' bytes, sent in turn.
    batch_size
        Inferences per request; None where they are not known.
    instances
        Instances of the model, where known.
    """

    load: Load
    requests: Sequence[bytes]
    batch_size: int | None = None
    instances: int | None = None

    def __str__(self) -> str:
        return str(self.load) if self.batch_size is None else f"batch {self.batch_size}, {self.load}"


@dataclass(frozen=True)
class Pace:
    """How long each step is measured.

    Parameters
    ----------
    rule
        How long windows are and when they agree.
    warm_up_s
        Seconds of each point that do not count.
    budget_s
        The whole sweep is to take no longer than so many seconds; None for no limit.

    Raises
    ------
    SpecError
        A time that cannot be.
    """

    rule: Rule
    warm_up_s: float
    budget_s: float | None

    def __post_init__(self) -> None:
        check_number("warm_up_s", self.warm_up_s, 0, _MOST_S)
        if self.budget_s is not None:
            check_number("budget_s", self.budget_s, _LEAST_S, _MOST_S)


def loads_of(concurrency: Sequence[int], rates: Sequence[float], **fields: Any) -> list[Load]:
    """Return the loads of a sweep: the rates, where there are any, else the concurrencies.

    Raises
    ------
    SpecError
        A load that cannot be sent, or none.
    """
    loads = [Load(rate=rate, **fields) for rate in rates] or [
        Load(concurrency=count, **fields) for count in concurrency
    ]
    if not loads:
        raise SpecError("There is no load to measure.", hint="concurrency=[1], or rates=[100].")
    return loads


def machine() -> dict[str, str]:
    """Return what a report says of this machine."""
    return {
        "cpus": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
    }


class Sweep:
    """Takes one step after the other.

    Parameters
    ----------
    endpoint
        The server.
    side
        Its own account.
    steps
        What is measured.
    pace
        How long.
    """

    def __init__(self, endpoint: Endpoint, side: Counters, steps: Sequence[Step], pace: Pace) -> None:
        self._endpoint = endpoint
        self._side = side
        self._steps = steps
        self._pace = pace
        self._ended_early = ""

    def run(
        self,
        report: Report,
        on_point: Callable[[Point], None] | None = None,
        on_window: Callable[[Point], None] | None = None,
    ) -> Report:
        """Return a report with the points. Ctrl-C ends the sweep; what was measured until then is returned.

        That includes the windows of the point that was under way.

        Parameters
        ----------
        report
            All but the points.
        on_point
            Called with every point that is done.
        on_window
            Called with a point as it stands, after each of its windows.

        Raises
        ------
        ServerUnreachableError
            The server was gone before anything was measured.
        """
        points: list[Point] = []
        try:
            with Progress(f"Measuring {report.model}") as progress:
                for point in self._points(progress, on_window):
                    points.append(point)
                    if on_point:
                        on_point(point)
        except KeyboardInterrupt:
            self._ended_early = _INTERRUPTED
        if self._ended_early and not points:
            if self._ended_early == _INTERRUPTED:
                raise KeyboardInterrupt
            raise ServerUnreachableError(
                f"Nothing was measured: {self._ended_early}.",
                hint="see the server's log, and whether the addresses are right.",
            )
        return replace(report, points=tuple(points), ended_early=self._ended_early)

    def _points(self, progress: Progress, on_window: Callable[[Point], None] | None) -> Iterator[Point]:
        began = time.monotonic()
        pace = self._pace
        for done, step in enumerate(self._steps):
            passed = time.monotonic() - began
            left = len(self._steps) - done
            within = float("inf")
            if pace.budget_s is not None:
                within = (pace.budget_s - passed) / left
                if within <= 0:
                    self._ended_early = f"the time budget of {pace.budget_s:g} s was used up"
                    return
            each = passed / done if done else pace.warm_up_s + pace.rule.windows * pace.rule.interval_s
            progress.report(
                f"{step} ({done + 1} of {len(self._steps)}, about {each * left:.0f} s left)", done / len(self._steps)
            )
            measurement = PointMeasurement(
                self._endpoint,
                side=self._side,
                load=step.load,
                requests=step.requests,
                rule=pace.rule,
                about={
                    "batch_size": step.batch_size or 1,
                    "concurrency": None if step.load.rate else step.load.concurrency,
                    "request_rate": step.load.rate,
                    "instances": step.instances,
                },
                tick=progress.tick,
            )
            try:
                measurement.run(pace.warm_up_s, within, on_window)
            except KeyboardInterrupt:
                self._ended_early = _INTERRUPTED
            if measurement.measured:
                yield measurement.point()
            if measurement.gone:
                self._ended_early = f"the server stopped answering at {step} ({measurement.gone})"
            if self._ended_early:
                return
