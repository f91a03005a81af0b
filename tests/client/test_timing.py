"""Where the time of a request went: reckoned from the server's counters, and measured on the real server."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from python_models import python_model

import tritonnb as tn
from tritonnb.client.timing import timing_between

PARTS = ("queue", "compute_input", "compute_infer", "compute_output")
NOTHING = dict.fromkeys(("count", "success", *PARTS), 0)
ONE = {"count": 1, "success": 8_000_000, "queue": 1_000_000, "compute_input": 500_000, "compute_infer": 5_000_000}


def test_the_parts_add_up_to_the_total(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    timing = timing_between(NOTHING, NOTHING | ONE, 0.010)
    assert timing.client_s == pytest.approx(0.002)
    assert sum(seconds for _, seconds in timing._shares()) == pytest.approx(timing.total_s)
    assert repr(timing).splitlines() == [
        "Where the time went: 10 ms",
        "  client and transport  2 ms    ████",
        "  waiting in the queue  1 ms    ██",
        "  model: inputs         0.5 ms  █",
        "  model: inference      5 ms    ██████████",
        "  model: outputs        0 ms",
        "  server, the rest      1.5 ms  ███",
    ]


def test_what_the_server_does_after_it_has_answered_does_not_count():
    timing = timing_between(NOTHING, NOTHING | ONE, 0.007)
    assert (timing.server_s, timing.client_s) == (0.007, 0.0)


def test_with_stable_output_only_the_parts_are_named():
    timing = timing_between(NOTHING, NOTHING | ONE, 0.010)
    assert repr(timing).splitlines()[:2] == ["Where the time went", "  client and transport"]
    assert "ms" not in timing._repr_html_()


def test_other_traffic_is_told_and_the_means_are_shown(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    timing = timing_between(NOTHING, {name: 4 * value for name, value in (NOTHING | ONE).items()}, 0.010)
    assert (timing.requests, timing.server_s) == (4, pytest.approx(0.008))
    for shown in (repr(timing), timing._repr_html_()):
        assert "Other requests disturbed: the times in the server are means over 4 requests." in shown


def test_a_server_that_counted_nothing_is_told(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    timing = timing_between(ONE | dict.fromkeys(PARTS, 0), NOTHING, 0.010)  # it was started anew
    assert (timing.requests, timing.client_s) == (0, 0.010)
    assert repr(timing).endswith("The server's statistics did not count the request.")


TWICE = """
platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: [-1] }
output { name: "z" data_type: TYPE_FP32 dims: [-1] }
ensemble_scheduling { step [
  { model_name: "slow" model_version: -1 input_map { key: "x" value: "x" } output_map { key: "y" value: "between" } },
  { model_name: "slow" model_version: -1 input_map { key: "x" value: "between" } output_map { key: "y" value: "z" } }
] }
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A deployment of a model that takes 50 ms, one request at a time, and of an ensemble that asks it twice."""
    models = tmp_path_factory.mktemp("timed")
    (models / "slow" / "1").mkdir(parents=True)
    (models / "slow" / "1" / "model.py").write_text(python_model(execute="time.sleep(0.05 * len(requests))"))
    (models / "twice" / "1").mkdir(parents=True)
    (models / "twice" / "config.pbtxt").write_text(TWICE)
    with tn.deploy(models, name="timed") as deployment:
        yield deployment


X = {"x": np.zeros(1, np.float32)}


@pytest.mark.requires("engine")
def test_the_time_that_a_model_takes_is_shown_as_its_own(slow):
    timing = slow.infer("slow", X, timing=True).timing
    assert timing.requests == 1
    assert 0.05 <= timing.parts_s["compute_infer"] <= timing.server_s <= timing.total_s
    assert timing.total_s == pytest.approx(timing.client_s + timing.server_s)
    assert "model: inference" in repr(slow.infer("slow", X, timing=True))
    assert slow.infer("slow", X).timing is None


@pytest.mark.requires("engine")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_of_an_ensemble_the_time_of_all_its_models_is_shown(slow, protocol):
    timing = slow.infer("twice", X, timing=True, protocol=protocol).timing
    assert timing.requests == 1
    assert 0.1 <= timing.parts_s["compute_infer"] <= timing.total_s


@pytest.mark.requires("engine")
def test_requests_of_others_that_came_between_are_told(slow):
    counted = slow.statistics("slow")[0]["inference_stats"]["success"]["count"]
    others = [threading.Thread(target=slow.infer, args=("slow", X)) for _ in range(3)]
    for other in others:
        other.start()
    while slow.statistics("slow")[0]["inference_stats"]["success"]["count"] == counted:
        pass  # the first of them is answered, the other two wait
    timing = slow.infer("slow", X, timing=True).timing
    for other in others:
        other.join()
    assert timing.requests > 1
    assert timing.note
    assert timing.parts_s["queue"] > 0
