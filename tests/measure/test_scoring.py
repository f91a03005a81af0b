"""Measuring a web service that takes a POST, as an entry script's is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from tritonnb.endpoint import Endpoint
from tritonnb.errors import ServerUnreachableError, SpecError
from tritonnb.measure.report import Report
from tritonnb.measure.scoring import measure_run
from tritonnb.measure.server_side import server_processes
from tritonnb.measure.stability import Rule

QUICK = Rule(interval_s=0.1, max_windows=3)
BODY = b'{"data": [1, 2, 3]}'


@pytest.fixture
def scoring(known_server):
    """Start a service that answers POST /score; return its endpoint."""

    def start(**told):
        endpoint = known_server(**{"delays_ms": [5], **told})
        return replace(endpoint, url=f"{endpoint.url}/score")

    return start


def test_each_load_is_measured_and_requests_are_what_is_counted(scoring):
    done, windows = [], []
    report = measure_run(
        scoring(), BODY, concurrency=[1, 4], rule=QUICK, warm_up_s=0.1, on_point=done.append, on_window=windows.append
    )
    assert [point.concurrency for point in report.points] == [1, 4]
    assert done == list(report.points)
    assert len(windows) == sum(point.stability.windows for point in report.points)
    alone, four = report.points
    assert alone.latency.p50_us >= 5000
    assert four.requests_per_s > 2.5 * alone.requests_per_s
    assert all(point.server is None and not point.errors for point in report.points)
    assert sum(point.server_cpu_s for point in report.points) > 0
    assert (report.model, report.unit, report.protocol) == ("score", "requests", "http")
    assert report.settings["body_bytes"] == len(BODY)


def test_its_table_counts_requests_and_knows_of_no_batches(scoring, monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    text = repr(measure_run(scoring(), BODY, requests=10))
    columns = [column for column in text.splitlines()[1].split("  ") if column]
    assert columns == ["Concurrency", "Requests/s", "p50 ms", "p95 ms", "p99 ms", "Failed"]


def test_the_cpu_time_is_that_of_all_processes_that_share_the_socket():
    serving = """
import os, signal, socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    if all(os.fork() for _ in range(2)):
        print(listener.getsockname()[1], flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", serving], stdout=subprocess.PIPE, start_new_session=True) as master:
        try:
            port = int(master.stdout.readline())
            found = server_processes(Endpoint(f"http://127.0.0.1:{port}"))
            assert found[0].pid == master.pid
            assert len(found) == 3
        finally:
            os.killpg(master.pid, signal.SIGKILL)


def test_a_rate_is_held(scoring):
    [point] = measure_run(scoring(), BODY, rates=[50], arrivals="poisson", requests=20).points
    assert (point.request_rate, point.requests) == (50, 20)


def test_what_is_sent_is_the_body_with_the_headers_and_the_key(scoring):
    endpoint = replace(scoring(key="Bearer right"), headers={"Authorization": "Bearer right"})
    report = measure_run(endpoint, BODY, headers={"Content-Type": "image/png"}, requests=10)
    assert report.points[0].requests == 10
    assert "right" not in report.to_json()


def test_a_wrong_key_is_told_by_its_kind(scoring):
    endpoint = replace(scoring(key="Bearer right"), headers={"Authorization": "Bearer wrong"})
    [point] = measure_run(endpoint, BODY, requests=10).points
    assert point.errors == {"HTTP 403: no key": 10}
    assert point.warnings[0].startswith("100% of the requests failed (HTTP 403")


def test_a_script_that_fails_now_and_then_is_measured_by_the_others(scoring):
    [point] = measure_run(scoring(fail_every=4), BODY, requests=100).points
    assert (point.requests, point.errors) == (75, {"HTTP 500: the ink has run out": 25})


@pytest.mark.parametrize("status", [200, 201, 299])
def test_every_status_of_success_is_one(scoring, status):
    [point] = measure_run(scoring(status=status), BODY, requests=10).points
    assert point.requests == 10


def test_a_service_that_closes_its_connections_is_measured(scoring):
    reports = [measure_run(scoring(close=True), BODY, concurrency=[load], requests=50) for load in (1, 4)]
    assert [report.points[0].requests for report in reports] == [50, 50]


def test_nobody_there_is_told(scoring):
    with pytest.raises(ServerUnreachableError, match="Nothing was measured"):
        measure_run(replace(scoring(), url="http://127.0.0.1:9/score"), BODY)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": [0]}, "concurrency is 0"),
        ({"concurrency": []}, "There is no load"),
        ({"budget_s": "long"}, "budget_s is 'long'"),
        ({"headers": {"X-Me": "a\r\nb"}}, "the header 'X-Me' holds"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_sent(scoring, options, said):
    with pytest.raises(SpecError, match=said):
        measure_run(scoring(), BODY, **options)


def test_ctrl_c_returns_what_was_measured(scoring):
    report = measure_run(
        scoring(),
        BODY,
        concurrency=[1, 2],
        rule=QUICK,
        on_window=lambda point: signal.raise_signal(signal.SIGINT) if point.concurrency == 2 else None,
    )
    assert [point.concurrency for point in report.points] == [1, 2]
    assert report.ended_early == "interrupted"


def test_a_time_budget_is_kept(scoring):
    report = measure_run(scoring(), BODY, concurrency=[1, 2], rule=Rule(interval_s=0.2, tolerance=0), budget_s=0.5)
    assert sum(point.duration_s for point in report.points) < 1.5


def test_it_is_saved_and_read_shown_and_advised_like_any_report(scoring, tmp_path):
    report = measure_run(scoring(), BODY, concurrency=[1, 4], requests=40)
    report.to_json(tmp_path / "report.json")
    assert Report.from_json(tmp_path / "report.json") == report
    advice = report.recommend(p95_ms=1000)
    assert advice.sentences[0].startswith("Most throughput within p95 1,000 ms: concurrency 4, ")
    assert "requests/s at p95" in advice.sentences[0]
    assert not advice.changes
    assert len(report.figure().axes) == 3  # without the server's account of its time
    assert "concurrency 4" in repr(report.compare(report))
