"""When windows agree, on windows made up."""

from __future__ import annotations

import numpy as np
import pytest

from tritonnb.errors import SpecError
from tritonnb.measure.stability import Rule, Window


def window(requests_per_s, latency_ms=1.0):
    return Window(1.0, np.full(requests_per_s, latency_ms * 1e6, np.int64))


@pytest.mark.parametrize(
    ("rates", "stable"),
    [
        ([100, 100], False),  # three are needed
        ([100, 100, 100], True),
        ([100, 105, 110], True),  # 10 %, and not more
        ([100, 105, 111], False),
        ([1, 500, 100, 100, 100], True),  # only the last three count
        ([100, 100, 100, 150], False),
        ([100, 100, 0], False),
        ([0, 0, 0], False),
    ],
)
def test_the_last_three_windows_must_have_the_same_throughput(rates, stable):
    assert Rule().stable([window(rate) for rate in rates]) is stable


@pytest.mark.parametrize(("latencies", "stable"), [([1, 1, 1.1], True), ([1, 1, 1.12], False)])
def test_and_the_same_latency(latencies, stable):
    assert Rule().stable([window(100, latency) for latency in latencies]) is stable


def test_a_percentile_may_stand_for_the_latency():
    tails = [Window(1.0, np.array([1e6] * 98 + [tail * 1e6] * 2, np.int64)) for tail in (1, 2, 3)]
    assert Rule().stable(tails)
    assert not Rule(percentile=99).stable(tails)


def test_the_tolerance_and_the_number_of_windows_can_be_chosen():
    assert Rule(tolerance=0.6).stable([window(rate) for rate in (100, 150, 159)])
    assert Rule(windows=2).stable([window(rate) for rate in (50, 100, 100)])


def test_spreads_are_the_largest_over_the_smallest():
    throughput, latency = Rule().spreads([window(999), window(100, 1), window(125, 2), window(110, 1)])
    assert throughput == pytest.approx(0.25)
    assert latency == pytest.approx(1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval_s": 0},
        {"interval_s": float("nan")},
        {"interval_s": "5"},
        {"tolerance": -0.1},
        {"windows": 0},
        {"windows": 2.5},
        {"max_windows": 2},
        {"percentile": 101},
        {"min_requests": True},
    ],
)
def test_absurd_rules_are_refused(wrong):
    with pytest.raises(SpecError, match=f"{next(iter(wrong))} is .*\n.*Hint: it is a "):
        Rule(**wrong)
