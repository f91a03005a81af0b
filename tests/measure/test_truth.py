"""Servers whose delays are known are measured right.

A delay of 20 ms ends a little late on a busy machine, never early: hence the bounds.
"""

from __future__ import annotations

import numpy as np
import pytest

from tritonnb.measure.stability import Rule
from tritonnb.measure.sweep import measure


def only_point(endpoint, **options):
    [point] = measure(endpoint, "known", **options).points
    assert not point.errors
    return point


@pytest.mark.parametrize("concurrency", [1, 2, 4, 16])
def test_a_constant_delay(known_server, concurrency):
    point = only_point(known_server(delays_ms=[20]), concurrency=[concurrency], rule=Rule(interval_s=0.5))
    assert point.stability.stable
    assert 20e3 <= point.latency.p50_us < 22e3
    assert 20e3 <= point.latency.mean_us < 23e3
    assert point.requests_per_s == pytest.approx(concurrency / 0.020, rel=0.12)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_two_delays(known_server, concurrency):
    # 20 ms, and every fifth 80 ms: a mean of 32 ms.
    point = only_point(known_server(delays_ms=[20, 20, 20, 20, 80]), concurrency=[concurrency], requests=200)
    assert 20e3 <= point.latency.p50_us < 22e3
    assert 80e3 <= point.latency.p90_us < 83e3
    assert 80e3 <= point.latency.p99_us < 85e3
    assert 32e3 <= point.latency.mean_us < 34e3
    low = np.asarray(point.histogram.counts)[: np.searchsorted(point.histogram.edges_us, 50e3)].sum()
    assert low == 160


def test_a_stall_shows_in_an_open_loop(known_server):
    # 300 requests in 3 s; those due in the stalled second wait for its end, half a second on average.
    endpoint = known_server(delays_ms=[20], stall_at=1, stall_s=1)
    point = only_point(endpoint, rates=[100], requests=300)
    assert 20e3 <= point.latency.p50_us < 25e3
    assert point.latency.mean_us == pytest.approx(20e3 + 500e3 / 3, rel=0.1)
    assert 600e3 < point.latency.p90_us < 800e3
    assert 1000e3 < point.latency.max_us < 1050e3
    assert point.client.delay_mean_us < 5e3


def test_a_closed_loop_hardly_sees_the_stall(known_server):
    endpoint = known_server(delays_ms=[20], stall_at=1, stall_s=1)
    point = only_point(endpoint, concurrency=[1], requests=100)
    assert 20e3 <= point.latency.p95_us < 25e3
    assert 1000e3 < point.latency.max_us < 1050e3
