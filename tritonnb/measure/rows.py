"""Points as rows: flat ones for other programs, perf_analyzer's, and those that are shown."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tritonnb.measure.point import Latency, ServerTimes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import Field

    from tritonnb.measure.point import Point

# perf_analyzer's report_writer.cc, in its order; the first column is the load's. Then what only we have.
_CSV_OWN = (
    "Inferences/Second",
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
    "p50 latency",
    "p90 latency",
    "p95 latency",
    "p99 latency",
    "Avg latency",
)
_CSV_MORE = ("p99.9 latency", "Max latency", "Batch Size", "Instances", "Requests/Second", "Requests", "Errors")
_US_PER_MS = 1e3


def row(point: Point) -> dict[str, Any]:
    """Return a point as one flat mapping: times in microseconds, None where something is not known."""
    stability, client = point.stability, point.client
    return {
        "batch_size": point.batch_size,
        "concurrency": point.concurrency,
        "request_rate": point.request_rate,
        "instances": point.instances,
        "requests_per_s": point.requests_per_s,
        "inferences_per_s": point.inferences_per_s,
        **_fields(Latency, point.latency),
        "requests": point.requests,
        "failed": point.failed,
        "duration_s": point.duration_s,
        **{key: value for key, value in _fields(ServerTimes, point.server).items() if key != "requests"},
        "network_us": point.network_us,
        "mean_executed_batch": point.mean_executed_batch,
        "stable": stability.stable if stability else None,
        "throughput_spread": stability.throughput_spread if stability else None,
        "latency_spread": stability.latency_spread if stability else None,
        "client_idle_share": client.idle_share if client else None,
        "client_delay_mean_us": client.delay_mean_us if client else None,
        "client_cpu_s": client.cpu_s if client else None,
        "server_cpu_s": point.server_cpu_s,
        "machine_cpu_share": point.machine_cpu_share,
        "gpu_utilization": max((gpu.utilization for gpu in point.gpus), default=None),
        "gpu_memory_used_bytes": sum(gpu.memory_used_bytes for gpu in point.gpus) if point.gpus else None,
    }


def perf_analyzer_csv(points: Sequence[Point], *, by_concurrency: bool) -> str:
    """Return points as perf_analyzer's ``-f`` writes them, the slowest first, and our further columns after its own.

    *Client Send* and *Client Recv* are 0, and what they would hold is in *Network+Server Send/Recv*: to tell them the
    generator would have to read the clock twice more for each request, and a request that takes a single system call
    to send and to read has hardly more in them than that.

    Parameters
    ----------
    points
        The points.
    by_concurrency
        Whether the load is a concurrency; else it is a request rate.
    """
    load = "Concurrency" if by_concurrency else "Request Rate"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((load, *_CSV_OWN, *_CSV_MORE))
    for point in sorted(points, key=lambda point: point.inferences_per_s):
        values = (
            0,
            point.network_us,
            *_values(point.server, "queue_us", "compute_input_us", "compute_infer_us", "compute_output_us"),
            0,
            *_values(point.latency, "p50_us", "p90_us", "p95_us", "p99_us", "mean_us", "p999_us", "max_us"),
        )
        whole = ("" if value is None else round(value) for value in values)
        counts = (point.batch_size, point.instances, f"{point.requests_per_s:.6g}", point.requests, point.failed)
        writer.writerow((point.load_text, f"{point.inferences_per_s:.6g}", *whole, *counts))
    return text.getvalue()


def shown(
    points: Sequence[Point], *, by_concurrency: bool, by_instances: bool, unit: str, stable: bool
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and the rows that a person is shown.

    Parameters
    ----------
    points
        The points.
    by_concurrency
        Whether the load is a concurrency; else it is a request rate.
    by_instances
        Whether the count of instances differs.
    unit
        What is counted: of requests neither the batch nor the server's account is known.
    stable
        Leave out what changes from run to run.
    """
    load = "Concurrency" if by_concurrency else "Requests/s asked"
    whole = unit == "inferences"
    measured = (f"{unit.capitalize()}/s", *_MEASURED[: None if whole else _LATENCIES])
    columns = (
        *(("Batch",) if whole else ()),
        load,
        *(("Instances",) if by_instances else ()),
        *(() if stable else measured),
        "Failed",
    )
    rows = [
        (
            *((str(point.batch_size),) if whole else ()),
            point.load_text,
            *((number(point.instances),) if by_instances else ()),
            *(() if stable else _measured(point)[: len(measured)]),
            # How many failed changes from run to run; whether any did does not.
            "none" if not point.failed else "some" if stable else str(point.failed),
        )
        for point in points
    ]
    return columns, rows


_LATENCIES = 3
_MEASURED = ("p50 ms", "p95 ms", "p99 ms", "Queue ms", "Compute ms", "Network ms", "Ran in batches of")


def _measured(point: Point) -> tuple[str, ...]:
    unsettled = " (not stable)" if point.latency and point.stability and not point.stability.stable else ""
    times = (
        *_values(point.latency, "p50_us", "p95_us", "p99_us"),
        *_values(point.server, "queue_us", "compute_us"),
        point.network_us,
    )
    return (
        number(point.inferences_per_s) + unsettled,
        *map(milliseconds, times),
        number(point.mean_executed_batch),
    )


def number(value: float | None) -> str:
    """Return a number as people read it: three significant digits, no exponent, ``-`` for what is not known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004  (three digits before the point)


def milliseconds(microseconds: float | None) -> str:
    """Return microseconds as milliseconds, as `number` writes them."""
    return number(None if microseconds is None else microseconds / _US_PER_MS)


def _fields(kind: type[Latency | ServerTimes], values: Latency | ServerTimes | None) -> dict[str, Any]:
    fields: dict[str, Field[Any]] = kind.__dataclass_fields__
    return asdict(values) if values else dict.fromkeys(fields)


def _values(values: Latency | ServerTimes | None, *names: str) -> tuple[float | None, ...]:
    return tuple(getattr(values, name) if values else None for name in names)
