"""Servers whose delays are known are measured right.

A delay ends late on a busy machine, so the server tells how long each request really took.
"""

from __future__ import annotations

import numpy as np
import pytest

from tritonnb.measure.stability import Rule
from tritonnb.measure.sweep import measure

#: From the server's clock to ours: the loopback, and being given a CPU again on a busy machine.
BETWEEN_US = 10e3
#: Two ways to choose the middle one of an even number.
ROUNDING_US = 1e3


def only_point(endpoint, **options):
    [point] = measure(endpoint, "known", **options).points
    assert not point.errors
    return point


def is_just_above(measured, truth):
    return truth - ROUNDING_US < measured < truth + BETWEEN_US


@pytest.mark.parametrize("concurrency", [1, 2, 16])
def test_a_constant_delay(known_server, truth_us, concurrency):
    endpoint = known_server(delays_ms=[20])
    point = only_point(endpoint, concurrency=[concurrency], rule=Rule(interval_s=0.3, min_requests=0), warm_up_s=0.1)
    truth = truth_us(endpoint)
    assert point.latency.p50_us >= 20e3
    assert is_just_above(point.latency.p50_us, np.median(truth))
    assert point.requests_per_s == pytest.approx(concurrency / (point.latency.mean_us / 1e6), rel=0.1)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_two_delays(known_server, truth_us, concurrency):
    # 20 ms, and every fifth 80 ms.
    endpoint = known_server(delays_ms=[20, 20, 20, 20, 80])
    point = only_point(endpoint, concurrency=[concurrency], requests=100)
    truth = truth_us(endpoint)
    assert len(truth) == 100
    assert point.latency.p50_us >= 20e3
    assert is_just_above(point.latency.p50_us, np.median(truth))
    assert point.latency.p90_us >= 80e3
    assert is_just_above(point.latency.p90_us, np.percentile(truth, 90))
    assert is_just_above(point.latency.mean_us, truth.mean())
    quick = np.asarray(point.histogram.counts)[: np.searchsorted(point.histogram.edges_us, 70e3)].sum()
    assert quick == pytest.approx(80, abs=5)


def test_a_stall_shows_in_an_open_loop(known_server):
    # 300 requests in 3 s; those due in the stalled second wait for its end, half a second on average.
    point = only_point(known_server(delays_ms=[20], stall_at=1, stall_s=1), rates=[100], requests=300)
    assert 20e3 <= point.latency.p50_us < 40e3
    assert point.latency.mean_us == pytest.approx(20e3 + 500e3 / 3, rel=0.25)
    assert 600e3 < point.latency.p90_us < 900e3
    assert 990e3 < point.latency.max_us < 1200e3


def test_a_closed_loop_hardly_sees_the_stall(known_server):
    # The mistake that an open loop avoids: one request in 100 waits, and nobody counts those that were not sent.
    point = only_point(known_server(delays_ms=[20], stall_at=1, stall_s=1), concurrency=[1], requests=100)
    assert 20e3 <= point.latency.p95_us < 100e3
    assert 990e3 < point.latency.max_us < 1200e3
