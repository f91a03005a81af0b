"""Sweeps over real models and over servers that misbehave; all that can be wrong is said before or with the result."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tritonnb.client import Client
from tritonnb.errors import InferenceError, ServerError, ServerUnreachableError, SpecError, TritonNbError
from tritonnb.measure.stability import Rule
from tritonnb.measure.sweep import measure

QUICK = Rule(interval_s=0.1, max_windows=3)
X = {"x": [4]}
engine = pytest.mark.requires("engine")


@engine
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_every_batch_size_is_measured_under_every_load(measured, protocol):
    done, windows = [], []
    report = measure(
        measured.endpoint,
        "square",
        batch_sizes=[1, 4],
        concurrency=[1, 4],
        protocol=protocol,
        rule=QUICK,
        warm_up_s=0.1,
        on_point=done.append,
        on_window=windows.append,
    )
    assert [(point.batch_size, point.concurrency) for point in report.points] == [(1, 1), (1, 4), (4, 1), (4, 4)]
    assert not report.partial
    assert done == list(report.points)
    assert len(windows) == sum(point.stability.windows for point in report.points)
    for point in report.points:
        assert not point.errors
        assert point.requests > 50
        assert point.instances == 1
        assert set(point.executed_batches) <= set(range(point.batch_size, 9))
        assert 0 < point.server.total_us < point.latency.mean_us
        assert point.server.requests == pytest.approx(point.requests, rel=0.2)
        assert 0 < point.machine_cpu_share <= 1
        assert 0 <= point.client.idle_share <= 1
        assert point.client.cpu_s > 0
    assert sum(point.server_cpu_s for point in report.points) > 0
    assert report.config["max_batch_size"] == 8
    assert report.settings["interval_s"] == 0.1
    assert report.versions["server"]


@engine
def test_the_servers_own_account_says_where_the_time_went(measured):
    report = measure(measured.endpoint, "sleeper", concurrency=[1, 4], shapes=X, requests=40)
    alone, queued = report.points
    assert alone.server.compute_infer_us > 20e3
    assert 0.7 < alone.server.compute_infer_us / alone.latency.mean_us < 1
    assert 0.6 < queued.server.queue_us / queued.latency.mean_us < 0.8  # three others before it
    assert queued.executed_batches == {1: 40}


@engine
def test_dynamic_batching_shows_in_the_executed_batches(measured):
    report = measure(measured.endpoint, "square", concurrency=[16], rule=QUICK)
    assert report.points[0].mean_executed_batch > 1


@engine
def test_a_fixed_number_of_requests_is_sent(measured):
    [point] = measure(measured.endpoint, "square", concurrency=[3], requests=333).points
    assert point.requests == 333
    assert point.server.requests == 333
    assert point.stability is None


@engine
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_model_that_fails_every_request_is_told_in_its_own_words(measured, protocol):
    [point] = measure(measured.endpoint, "failing", shapes=X, rule=QUICK, protocol=protocol).points
    assert point.requests == 0
    assert point.latency is None
    [(name, count)] = point.errors.items()
    assert name.startswith({"http": "HTTP 500: ", "grpc": "gRPC INTERNAL: "}[protocol])
    assert "the ink has run out" in name
    assert count > 0
    assert point.warnings[0].startswith("100% of the requests failed (")


@engine
def test_a_model_that_fails_every_tenth_request_is_measured_by_the_others(measured):
    [point] = measure(measured.endpoint, "every_tenth", shapes=X, requests=200).points
    assert point.requests == 180
    assert point.failed == 20
    assert "every tenth fails" in next(iter(point.errors))
    assert point.warnings[0].startswith("10% of the requests failed")


@engine
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_sizes": [1, 9]}, "The batch size 9 is above the max_batch_size of model 'square', which is 8"),
        ({"batch_sizes": [0]}, "the batch size is 0"),
        ({"batch_sizes": [1.5]}, "the batch size is 1.5"),
        ({"batch_sizes": []}, "There is no batch size"),
        ({"concurrency": [0]}, "concurrency is 0"),
        ({"concurrency": [10**9]}, "concurrency is 1000000000"),
        ({"concurrency": []}, "There is no load"),
        ({"rates": [-5]}, "rate is -5"),
        ({"rates": [float("inf")]}, "rate is inf"),
        ({"rates": [10], "arrivals": "poison"}, "arrivals is 'poison'.\nHint: did you mean 'poisson'?"),
        ({"protocol": "htp"}, "protocol is 'htp'.\nHint: did you mean 'http'?"),
        ({"requests": 0}, "requests is 0"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"warm_up_s": -1}, "warm_up_s is -1"),
        ({"budget_s": "long"}, "budget_s is 'long'"),
        ({"inputs": "randm"}, "There are no inputs 'randm'.\nHint: did you mean 'random'?"),
        ({"inputs": []}, "There are no inputs"),
        ({"shapes": {"y": [4]}}, "has no input 'y'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_sent(measured, options, said):
    before = measured.statistics("square")[0]["inference_count"]
    with pytest.raises(SpecError) as error:
        measure(measured.endpoint, "square", **options)
    assert said in str(error.value)
    assert measured.statistics("square")[0]["inference_count"] == before


@engine
def test_a_model_without_a_batch_dimension_has_no_batch_sizes(measured):
    with pytest.raises(SpecError, match=r"'alone' has no batch dimension, so there is no batch size 2"):
        measure(measured.endpoint, "alone", batch_sizes=[1, 2], shapes=X)


@engine
def test_an_open_shape_must_be_given(measured):
    with pytest.raises(SpecError, match=r"'x' of model 'alone' has the open shape \[\?\](.|\n)*shapes=\{'x': \[8\]\}"):
        measure(measured.endpoint, "alone")


@engine
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_inputs_may_lie_in_shared_memory(measured, protocol):
    x = np.arange(80, dtype=np.float32).reshape(20, 4)

    def left_behind():
        return list(Path("/dev/shm").glob(f"tritonnb_client_{os.getpid()}_*"))

    seen = []
    with Client(measured.endpoint) as client:
        report = measure(
            measured.endpoint,
            "square",
            inputs={"x": x},
            batch_sizes=[8],
            requests=9,
            shared_memory=True,
            protocol=protocol,
            on_point=lambda _: seen.append((len(client.system_shared_memory()), left_behind())),
        )
        assert client.system_shared_memory() == []
    assert seen == [(3, [])]  # a process that is killed meanwhile would leave no file either
    assert f"over {protocol}, inputs in shared memory" in repr(report)
    [point] = report.points
    assert not point.errors
    assert point.requests == 9
    assert set(point.executed_batches) == {8}
    assert not left_behind()


@engine
def test_ones_own_arrays_are_checked(measured):
    with pytest.raises(InferenceError, match="has no input 'z'"):
        measure(measured.endpoint, "square", inputs={"z": np.zeros((1, 4), np.float32)})
    [point] = measure(measured.endpoint, "square", inputs={"x": np.zeros((20, 4))}, batch_sizes=[8], requests=9).points
    assert point.requests == 9


@engine
def test_a_model_that_is_not_known_or_not_ready_is_told(measured):
    with pytest.raises(ServerError, match=r"'sqare' is not found(.|\n)*did you mean 'square'"):
        measure(measured.endpoint, "sqare")
    measured.unload("alone")
    try:
        with pytest.raises(ServerError, match=r"(?s)alone.*UNAVAILABLE"):
            measure(measured.endpoint, "alone")
    finally:
        measured.load("alone")


def test_more_connections_than_open_files_are_refused(known_server, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (100, 256))
    with pytest.raises(
        SpecError, match=r"300 requests at a time need as many connections, .* may have 206(.|\n)*ulimit"
    ):
        measure(known_server(), "known", concurrency=[1, 300])


def test_many_connections_are_possible_where_the_limit_can_be_raised(known_server):
    [point] = measure(known_server(delays_ms=[50]), "known", concurrency=[500], requests=1000).points
    assert point.requests == 1000


def test_a_wrong_key_is_told_before_anything_is_sent(known_server):
    endpoint = known_server(key="Bearer right")
    with pytest.raises(ServerError, match="the key is missing or wrong"):
        measure(replace(endpoint, headers={"Authorization": "Bearer wrong"}), "known")
    right = replace(endpoint, headers={"Authorization": "Bearer right"})
    report = measure(right, "known", requests=5)
    assert report.points[0].requests == 5
    assert "right" not in report.to_json()


def test_no_server_is_told(known_server):
    endpoint = replace(known_server(), url="http://127.0.0.1:9")
    with pytest.raises(ServerUnreachableError, match="nothing listens"):
        measure(endpoint, "known")


def test_a_server_that_dies_leaves_what_was_measured_and_a_word(known_server):
    # 80 requests at concurrency 1; the server dies during the second point.
    report = measure(known_server(delays_ms=[5], die_after=100), "known", concurrency=[1, 2, 4], requests=80)
    assert [point.concurrency for point in report.points][:1] == [1]
    assert report.points[0].requests == 80
    assert report.ended_early.startswith("the server stopped answering at batch 1, concurrency 2 (")
    assert "Ended early: the server stopped answering" in "\n".join(report.notes)


def test_a_server_that_dies_while_windows_are_read_does_not_hang_the_sweep(known_server):
    began = time.monotonic()
    report = measure(known_server(delays_ms=[5], die_after=300), "known", concurrency=[2, 4], rule=Rule(interval_s=0.3))
    assert report.ended_early.startswith("the server stopped answering")
    assert time.monotonic() - began < 8


def test_where_nothing_answers_at_the_grpc_address_it_is_told(known_server):
    endpoint = replace(known_server(), grpc_url="127.0.0.1:9")
    with pytest.raises(ServerUnreachableError, match=r"Nothing was measured: .* \(gRPC UNAVAILABLE: .*refused"):
        measure(endpoint, "known", protocol="grpc")


def test_a_server_that_hangs_is_told(known_server):
    options = {"concurrency": [4], "rule": QUICK, "timeout_s": 0.3}
    [point] = measure(known_server(delays_ms=[60_000]), "known", **options).points
    assert point.latency is None
    assert list(point.errors) == ["timeout: no answer within 0.3 s"]


def test_a_model_slower_than_the_windows_is_measured(known_server):
    [point] = measure(
        known_server(delays_ms=[700]), "known", rule=Rule(interval_s=0.05, max_windows=3), warm_up_s=0
    ).points
    assert point.requests == 3
    assert 700e3 <= point.latency.mean_us < 800e3


def test_ctrl_c_returns_what_was_measured_with_the_windows_of_the_point_under_way(known_server):
    seen = []

    def interrupt_the_second(point):
        seen.append(point.concurrency)
        if point.concurrency == 2:
            signal.raise_signal(signal.SIGINT)

    report = measure(
        known_server(delays_ms=[5]), "known", concurrency=[1, 2, 4], rule=QUICK, on_window=interrupt_the_second
    )
    assert [point.concurrency for point in report.points] == [1, 2]
    assert report.points[1].requests
    assert report.points[1].warnings[0] == "not stable: only 1 of the 3 windows that must agree could be measured"
    assert report.ended_early == "interrupted"
    assert set(seen) == {1, 2}


@pytest.fixture
def interrupt_after(truth_us):
    """Press Ctrl-C as soon as a known server has answered so many requests."""

    def start(endpoint, answers):
        def press():
            while len(truth_us(endpoint)) < answers:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press).start()

    return start


def test_ctrl_c_returns_what_was_answered_of_a_fixed_number_of_requests(known_server, interrupt_after):
    endpoint = known_server(delays_ms=[5])
    interrupt_after(endpoint, 100)
    report = measure(endpoint, "known", requests=100_000)
    [point] = report.points
    assert 0 < point.requests < 100_000
    assert point.warnings[0] == f"only {point.requests} of the 100000 requests were sent"
    assert report.ended_early == "interrupted"


def test_ctrl_c_before_anything_was_measured_is_ctrl_c(known_server, interrupt_after):
    endpoint = known_server(delays_ms=[5])
    interrupt_after(endpoint, 10)
    with pytest.raises(KeyboardInterrupt):
        measure(endpoint, "known", warm_up_s=60)


def test_a_time_budget_is_kept(known_server):
    began = time.monotonic()
    rule = Rule(interval_s=0.3, tolerance=0)  # nothing is ever stable
    report = measure(known_server(delays_ms=[5]), "known", concurrency=range(1, 21), rule=rule, budget_s=3)
    assert time.monotonic() - began < 5
    assert report.ended_early == "the time budget of 3 s was used up"
    assert 1 <= len(report.points) < 20


def test_a_time_budget_is_kept_by_a_fixed_number_of_requests_too(known_server):
    began = time.monotonic()
    report = measure(known_server(delays_ms=[5]), "known", concurrency=[1, 2], requests=100_000, budget_s=2)
    assert [point.concurrency for point in report.points] == [1, 2]
    for point in report.points:
        assert point.requests > 0
        assert point.warnings[0].startswith(f"only {point.requests} of the 100000 ")
    assert time.monotonic() - began < 30  # all of them take minutes


def test_what_never_settles_is_reported_as_not_stable(known_server):
    endpoint = known_server(delays_ms=[5])
    [point] = measure(endpoint, "known", rule=Rule(interval_s=0.1, min_requests=0, tolerance=0, max_windows=4)).points
    assert not point.stability.stable
    assert point.stability.windows == 4
    assert point.warnings[0].startswith("not stable after 4 windows: the last ones differ by ")


def test_a_server_without_statistics_is_measured_from_outside(known_server):
    [point] = measure(known_server(delays_ms=[5]), "known", requests=50).points
    assert point.server is None
    assert point.executed_batches == {}
    assert point.network_us is None


def test_a_server_that_is_not_ours_may_speak_no_grpc(known_server):
    with pytest.raises(TritonNbError, match="The gRPC address is not known"):
        measure(known_server(), "known", protocol="grpc")


@engine
def test_an_ensemble_is_charged_what_its_models_took(measured):
    with Client(measured.endpoint) as client:
        assert client.model_ready("chain")
    [point] = measure(measured.endpoint, "chain", shapes=X, requests=30).points
    assert 20e3 < point.server.compute_infer_us < point.latency.mean_us
