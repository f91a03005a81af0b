"""Windows of a measurement, and when they agree: the rule of perf_analyzer.

Three windows in a row whose throughput and whose latency differ by no more than 10 % are stable; the result is what
the three hold together (perf_analyzer, ``docs/measurements_metrics.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tritonnb.measure.load import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Window:
    """What one window saw.

    Parameters
    ----------
    duration_s
        Its length, in seconds.
    latencies_ns
        Of the requests answered well, shape ``[n]``.
    """

    duration_s: float
    latencies_ns: NDArray[np.int64]

    @property
    def requests_per_s(self) -> float:
        """Requests answered well, per second."""
        return len(self.latencies_ns) / self.duration_s if self.duration_s > 0 else 0.0


W = TypeVar("W", bound=Window)


@dataclass(frozen=True)
class Rule:
    """How long a window lasts, and when windows agree.

    Parameters
    ----------
    interval_s
        The length of a window, in seconds (perf_analyzer's ``--measurement-interval``).
    min_requests
        A window goes on until so many were answered, or, where it has got ten times as long, any.
    tolerance
        By how much windows may differ: 0.1 is 10 % (``--stability-percentage``).
    windows
        How many must agree.
    max_windows
        After so many it is given up; what the last ones hold is then reported as not stable (``--max-trials``).
    percentile
        Which percentile of the latency must agree; None for the mean (``--percentile``).

    Raises
    ------
    SpecError
        A value that makes no sense.
    """

    interval_s: float = 1.0
    min_requests: int = 50
    tolerance: float = 0.1
    windows: int = 3
    max_windows: int = 10
    percentile: float | None = None

    def __post_init__(self) -> None:
        check_number("interval_s", self.interval_s, 0.01, 3600)
        check_number("min_requests", self.min_requests, 0, 1e6, whole=True)
        check_number("tolerance", self.tolerance, 0, 10)
        check_number("windows", self.windows, 1, 100, whole=True)
        check_number("max_windows", self.max_windows, self.windows, 1e4, whole=True)
        if self.percentile is not None:
            check_number("percentile", self.percentile, 0, 100)

    def latency_ns(self, window: Window) -> float:
        """Return the latency by which windows are compared; 0 where nothing was answered."""
        if not len(window.latencies_ns):
            return 0.0
        if self.percentile is None:
            return float(window.latencies_ns.mean())
        return float(np.percentile(window.latencies_ns, self.percentile, method="nearest"))

    def last(self, windows: Sequence[W]) -> Sequence[W]:
        """Return the windows that are compared, and merged into the result."""
        return windows[-self.windows :]

    def spreads(self, windows: Sequence[Window]) -> tuple[float, float]:
        """Return the largest over the smallest, less 1, of throughput and latency; infinite where one was nothing."""
        last = self.last(windows)
        return _spread([w.requests_per_s for w in last]), _spread([self.latency_ns(w) for w in last])

    def stable(self, windows: Sequence[Window]) -> bool:
        """Tell whether the last windows agree."""
        return len(windows) >= self.windows and max(self.spreads(windows)) <= self.tolerance + _ROUNDING


def _spread(values: Sequence[float]) -> float:
    return max(values) / min(values) - 1 if values and min(values) > 0 else float("inf")
