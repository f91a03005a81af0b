"""Reports of a server that is simple enough to know what must come of it: no queue but its own, no noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tritonnb.measure.point import ClientSide, Point, ServerTimes, Stability
from tritonnb.measure.report import Report

WAY_MS = 1.0
FIXED_MS = 4.0
PER_INFERENCE_MS = 1.0


def point(batch_size: int, concurrency: int, *, instances: int = 1, requests: int = 1000, **changes) -> Point:
    """Return what a server measures whose instance computes for 4 ms and 1 ms per inference, 1 ms away.

    So one request at a time is answered after 5 ms + batch_size, and the throughput of a saturated instance is
    batch_size inferences per 4 ms + batch_size.
    """
    compute = FIXED_MS + PER_INFERENCE_MS * batch_size
    # Requests beyond those that are on their way or being computed wait.
    latency = max(compute + WAY_MS, concurrency * compute / instances)
    spread = np.linspace(0.9, 1.1, requests)
    fields = {
        "batch_size": batch_size,
        "concurrency": concurrency,
        "instances": instances,
        "duration_s": requests * latency / 1000 / concurrency,
        "server": ServerTimes(requests, (latency - compute - WAY_MS) * 1000, 100.0, compute * 1000 - 150.0, 50.0),
        "executed_batches": {batch_size: requests},
        "stability": Stability(stable=True, windows=3, throughput_spread=0.02, latency_spread=0.03),
        "client": ClientSide(idle_share=0.9, delay_mean_us=10.0, cpu_s=0.1),
        "machine_cpu_share": 0.5,
    }
    return Point.from_latencies(spread * latency * 1e6, **{**fields, **changes})


def report(batch_sizes=(1, 2, 4), concurrency=(1, 2, 4), **changes) -> Report:
    """Return the report of a sweep of that server."""
    points = tuple(point(size, load) for size in batch_sizes for load in concurrency)
    config = {
        "name": "steady",
        "max_batch_size": 8,
        "instance_group": [{"name": "steady", "count": 1, "kind": "KIND_CPU"}],
    }
    made = Report("steady", points, version="1", config=config, machine={"cpus": "2"}, versions={"server": "2.51.0"})
    return replace(made, **changes)
