"""The point that one would choose: the knee, and the fastest within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tritonnb.measure.point import Point


def knee(points: Iterable[Point]) -> Point | None:
    """Return the knee: the point with the most inferences per second for each second of mean latency.

    This ratio is Kleinrock's power of a queueing system. Below the knee more load brings more throughput than it
    costs latency, beyond it more latency than it brings throughput.

    Parameters
    ----------
    points
        Of one sweep. Those with a failed request or without an answer are passed over.

    Returns
    -------
    Point or None
        None where no point is left.
    """
    return max(_sound(points), key=power, default=None)


def power(point: Point) -> float:
    """Return inferences per second over seconds of mean latency; 0 where nothing was answered."""
    return point.inferences_per_s / point.latency.mean_us * 1e6 if point.latency else 0.0


def fastest(points: Iterable[Point], p95_limit_us: float | None = None) -> Point | None:
    """Return the point with the most inferences per second whose p95 latency keeps a limit.

    Parameters
    ----------
    points
        Of one sweep. Those with a failed request or without an answer are passed over.
    p95_limit_us
        The limit in microseconds; None for no limit.

    Returns
    -------
    Point or None
        None where no point keeps it.
    """
    kept = (
        point
        for point in _sound(points)
        if point.latency and (p95_limit_us is None or point.latency.p95_us <= p95_limit_us)
    )
    return max(kept, key=lambda point: point.inferences_per_s, default=None)


def next_load(points: Iterable[Point], point: Point) -> Point | None:
    """Return the point of the same batch size and instances with the next higher load; None where there is none."""
    series = [p for p in points if (p.batch_size, p.instances) == (point.batch_size, point.instances) and p.latency]
    return min((p for p in series if load_value(p) > load_value(point)), key=load_value, default=None)


def load_value(point: Point) -> float:
    """Return the load as a number: the concurrency, or the requests per second that were meant to be sent."""
    return point.request_rate or 0.0 if point.concurrency is None else point.concurrency


def _sound(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if point.latency and not point.failed]
