"""One measured point: what a server did under one load, as plain values."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (pydantic reads the annotations when a report is read)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

_NS_PER_US = 1e3
#: Bins of the histogram per factor of ten: each is 4.9 % wide.
_BINS_PER_DECADE = 48
#: With fewer on average a distribution's shape is not seen.
_REQUESTS_PER_BIN = 5


@dataclass(frozen=True)
class Latency:
    """The latencies of the requests that were answered, in microseconds.

    A percentile is a latency that was measured, the one whose rank is nearest, as in perf_analyzer.
    """

    mean_us: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    p999_us: float
    max_us: float

    @classmethod
    def of(cls, latencies_ns: ArrayLike) -> Self:
        """Return the statistics of at least one latency.

        Parameters
        ----------
        latencies_ns
            Nanoseconds, shape ``[n]``.
        """
        microseconds = np.asarray(latencies_ns, np.float64) / _NS_PER_US
        percentiles = np.percentile(microseconds, [50, 90, 95, 99, 99.9, 100], method="nearest")
        return cls(float(microseconds.mean()), *map(float, percentiles))


@dataclass(frozen=True)
class Histogram:
    """How often each latency was seen, in bins as wide as 1/48 of a factor of ten.

    All histograms have the same bins, so that those of two points can be laid over each other.

    Parameters
    ----------
    first_bin
        The number of the first bin; bin ``i`` begins at ``10 ** (i / bins_per_decade)`` microseconds.
    counts
        The requests in each bin from the first one on.
    bins_per_decade
        How many bins a factor of ten has.
    """

    first_bin: int
    counts: tuple[int, ...]
    bins_per_decade: int = _BINS_PER_DECADE

    @classmethod
    def of(cls, latencies_ns: ArrayLike) -> Self:
        """Return the histogram of at least one latency.

        Parameters
        ----------
        latencies_ns
            Nanoseconds, shape ``[n]``.
        """
        # A clock may tell zero where it is coarse; zero has no logarithm.
        microseconds = np.maximum(np.asarray(latencies_ns, np.float64), 1) / _NS_PER_US
        bins = np.floor(np.log10(microseconds) * _BINS_PER_DECADE).astype(np.int64)
        first = int(bins.min())
        return cls(first, tuple(np.bincount(bins - first).tolist()))

    @property
    def edges_us(self) -> NDArray[np.float64]:
        """Where the bins begin and the last one ends, in microseconds, shape ``[len(counts) + 1]``."""
        bins = np.arange(self.first_bin, self.first_bin + len(self.counts) + 1)
        return np.power(10.0, bins / self.bins_per_decade)

    def readable(self) -> Histogram:
        """Return one of wider bins where there are so few requests that most bins would hold one or none."""
        if self.bins_per_decade % 2 or sum(self.counts) >= _REQUESTS_PER_BIN * len(self.counts):
            return self
        first = self.first_bin // 2
        padded = [0] * (self.first_bin - 2 * first) + [*self.counts, 0]
        pairs = tuple(sum(padded[at : at + 2]) for at in range(0, len(padded) - 1, 2))
        return Histogram(first, pairs, self.bins_per_decade // 2).readable()


@dataclass(frozen=True)
class ServerTimes:
    """The server's own account: means per request in microseconds, from the growth of its statistics.

    A request that was executed in a batch with others is charged the whole batch's compute time.

    Parameters
    ----------
    requests
        Those that the server counted meanwhile, whoever sent them.
    queue_us
        Waiting for a model instance, or for other requests to be batched with.
    compute_input_us, compute_infer_us, compute_output_us
        Gathering the inputs, running the model, handing out the outputs.
    """

    requests: int
    queue_us: float
    compute_input_us: float
    compute_infer_us: float
    compute_output_us: float

    @property
    def total_us(self) -> float:
        """All that the server accounts for."""
        return self.queue_us + self.compute_us

    @property
    def compute_us(self) -> float:
        """Input, infer and output together."""
        return self.compute_input_us + self.compute_infer_us + self.compute_output_us


@dataclass(frozen=True)
class Stability:
    """How much the windows that the point is made of differed.

    Parameters
    ----------
    stable
        Whether throughput and latency settled, by the sweep's rule.
    windows
        How many were measured until then.
    throughput_spread, latency_spread
        The largest over the smallest of the merged windows, less 1: 0.08 is a difference of 8 %.
    """

    stable: bool
    windows: int
    throughput_spread: float
    latency_spread: float


@dataclass(frozen=True)
class ClientSide:
    """What the load generator says of itself.

    Parameters
    ----------
    idle_share
        The share of the time in which it waited for the server and could have done more, 0 to 1.
    delay_mean_us, delay_max_us
        How much later than meant requests were sent, in microseconds.
    delayed_share
        The share of the requests that were sent later than meant by more than the generator allows, 0 to 1.
    cpu_s
        CPU seconds that it took for this point.
    """

    idle_share: float
    delay_mean_us: float = 0.0
    delay_max_us: float = 0.0
    delayed_share: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Gpu:
    """One GPU meanwhile, from the server's metrics.

    Parameters
    ----------
    uuid
        Its identity.
    utilization
        Mean, 0 to 1.
    memory_used_bytes, memory_total_bytes
        The most that was used, and all that there is.
    power_w
        Mean, in watts.
    """

    uuid: str
    utilization: float
    memory_used_bytes: int
    memory_total_bytes: int
    power_w: float = 0.0


@dataclass(frozen=True)
class Point:
    """What a server did under one load.

    Parameters
    ----------
    batch_size
        Inferences per request; 1 where the model has no batch dimension.
    concurrency
        Requests outstanding at any time; None where requests were sent at a rate.
    request_rate
        Requests per second that were meant to be sent; None where the concurrency was held.
    instances
        Instances of the model; None where unknown.
    duration_s
        The length of the measurement.
    requests
        Those answered well.
    latency
        Of those answered well; None where none was. At a request rate it counts from the time when the request
        was meant to be sent, so that waiting for a stalled server is seen.
    histogram
        The same latencies, for the distribution's chart.
    errors
        How many requests failed, by kind, such as ``"HTTP 500: the model's words"``.
    server
        The server's own account; None where it keeps none.
    executed_batches
        How often the model ran a batch of each size, from the growth of ``batch_stats``.
    stability
        How much the windows differed; None where there was only one.
    client
        What the load generator says of itself; None where it says nothing.
    server_cpu_s
        CPU seconds that the server's processes took; None where they cannot be seen.
    machine_cpu_share
        The share of all of this machine's CPUs in use, 0 to 1; None where unknown.
    gpus
        The GPUs that the server's metrics show.
    warnings
        What to bear in mind when reading this point, a sentence each.
    """

    batch_size: int
    concurrency: int | None
    duration_s: float
    requests: int
    latency: Latency | None
    histogram: Histogram | None
    request_rate: float | None = None
    instances: int | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    server: ServerTimes | None = None
    executed_batches: Mapping[int, int] = field(default_factory=dict)
    stability: Stability | None = None
    client: ClientSide | None = None
    server_cpu_s: float | None = None
    machine_cpu_share: float | None = None
    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_latencies(cls, latencies_ns: ArrayLike, **fields: Any) -> Self:
        """Return the point of these latencies.

        Parameters
        ----------
        latencies_ns
            Of the requests that were answered well, in nanoseconds, shape ``[n]``; may be empty.
        **fields
            All others of the class: ``batch_size``, ``concurrency``, ``duration_s``, ...
        """
        latencies = np.asarray(latencies_ns, np.float64)
        return cls(
            requests=int(latencies.size),
            latency=Latency.of(latencies) if latencies.size else None,
            histogram=Histogram.of(latencies) if latencies.size else None,
            **fields,
        )

    @property
    def load_text(self) -> str:
        """The load in figures: the concurrency, or the requests per second that were meant to be sent."""
        return f"{self.request_rate:g}" if self.concurrency is None else str(self.concurrency)

    def __str__(self) -> str:
        load = "requests/s" if self.concurrency is None else "concurrency"
        return f"batch {self.batch_size}, {load} {self.load_text}"

    @property
    def requests_per_s(self) -> float:
        """Requests answered well, per second."""
        return self.requests / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def inferences_per_s(self) -> float:
        """Requests answered well times the batch size, per second."""
        return self.requests_per_s * self.batch_size

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())

    @property
    def mean_executed_batch(self) -> float | None:
        """The mean size of the batches that the model ran; None where the server does not say."""
        executions = sum(self.executed_batches.values())
        if not executions:
            return None
        return sum(size * count for size, count in self.executed_batches.items()) / executions

    @property
    def network_us(self) -> float | None:
        """The rest of the mean latency that the server does not account for: network, HTTP, the client itself."""
        if self.server is None or self.latency is None:
            return None
        return max(0.0, self.latency.mean_us - self.server.total_us)
