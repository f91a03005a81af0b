"""What limits a point: the queue, the model, the way there, or the load generator itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tritonnb.measure.rows import milliseconds

if TYPE_CHECKING:
    from tritonnb.measure.point import Point

#: A load generator that is idle for less than this share of the time may be what limits.
CLIENT_BUSY = 0.1
#: A machine whose CPUs are in use for more than this share has none to spare for a further instance.
CPUS_BUSY = 0.85


class Limit(NamedTuple):
    """What limits: queue, compute, network, client, or empty where nothing can be said; and why, in a sentence."""

    by: str
    why: str


def limit_of(point: Point) -> Limit:
    """Return what most of a request's time goes into, by the server's own account.

    Parameters
    ----------
    point
        One that was answered.
    """
    if point.client and point.client.idle_share < CLIENT_BUSY:
        return Limit("client", "the load generator was busy all the time, so the server may be able to do more.")
    if point.server is None or point.latency is None or point.network_us is None:
        return Limit("", "")
    mean = point.latency.mean_us
    parts = {"queue": point.server.queue_us, "compute": point.server.compute_us, "network": point.network_us}
    by = max(parts, key=lambda part: parts[part])
    spent = f"{milliseconds(parts[by])} of {milliseconds(mean)} ms"
    return Limit(by, f"{spent} {_WORDS[by]}{_cpus(point)}.")


_WORDS = {
    "queue": "a request waits in the server's queue, for a free instance of the model",
    "compute": "the model itself computes",
    "network": "are the way to the server and back: HTTP or gRPC, copying, the client",
}


def _cpus(point: Point) -> str:
    share = point.machine_cpu_share
    if share is None:
        return ""
    return f"; the machine's CPUs are {'all in use' if share > CPUS_BUSY else f'in use to {share:.0%}'}"
