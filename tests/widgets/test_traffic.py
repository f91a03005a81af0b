"""Rates and means out of counters that only count up."""

from __future__ import annotations

import pytest

from tritonnb.widgets.traffic import HISTORY_S, History, Traffic


def entry(model, done, *, failed=0, queue_ms=1, total_ms=5, version="1"):
    """Return Triton's statistics of a model each of whose requests waited and took so long."""
    return {
        "name": model,
        "version": version,
        "inference_stats": {
            "success": {"count": done, "ns": int(done * total_ms * 1e6)},
            "fail": {"count": failed, "ns": 0},
            "queue": {"count": done, "ns": int(done * queue_ms * 1e6)},
        },
    }


@pytest.fixture
def history():
    return History()


def test_before_the_second_look_nothing_is_known(history):
    assert history.traffic() == Traffic()
    history.add(100.0, [entry("a", 1000)])
    assert history.traffic() == Traffic()
    assert history.steps() == []


def test_two_looks_give_rates_and_means(history):
    history.add(0.0, [entry("a", 100), entry("b", 7)])
    history.add(10.0, [entry("a", 200, failed=20), entry("b", 7)])
    assert history.traffic("a") == Traffic(12.0, 2.0, 1.0, 5.0)
    assert history.traffic("b") == Traffic(0.0, 0.0, None, None)
    assert history.traffic() == Traffic(12.0, 2.0, 1.0, 5.0)


def test_the_versions_of_a_model_are_taken_together(history):
    history.add(0.0, [entry("a", 0), entry("a", 0, version="2")])
    history.add(1.0, [entry("a", 3, total_ms=4), entry("a", 1, total_ms=8, version="2")])
    assert history.traffic("a") == Traffic(4.0, 0.0, 1.0, 5.0)


def test_a_model_that_was_loaded_anew_counts_from_zero(history):
    history.add(0.0, [entry("a", 1000)])
    history.add(1.0, [entry("a", 3)])
    assert history.traffic("a").requests_per_s == 3.0


def test_the_window_forgets_and_the_history_is_of_five_minutes(history):
    for second in range(1000):
        history.add(float(second), [entry("a", 100 * min(second, 900))])
    assert history.traffic("a") == Traffic(0.0, 0.0, None, None)
    assert history.traffic("a", window_s=HISTORY_S).requests_per_s == pytest.approx(100 * 201 / 301, rel=0.01)
    steps = history.steps()
    assert len(steps) == 61
    assert [step.requests_per_s for _, step in steps][-1] == 0.0
    assert steps[5] == (275.0, Traffic(100.0, 0.0, 1.0, 5.0))
