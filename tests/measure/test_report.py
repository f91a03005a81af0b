import csv
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from measured import point, report

from tritonnb.errors import SpecError
from tritonnb.measure.point import Gpu, Point
from tritonnb.measure.report import Report


@pytest.fixture
def full_output(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_saved_report_comes_back_as_it_was(tmp_path):
    gpu = Gpu("GPU-1", 0.5, 2**30, 2**34, 70.0)
    awkward = point(4, 2, errors={"HTTP 500: é\n<b>": 3}, gpus=(gpu,), executed_batches={1: 3, 4: 7})
    open_loop = Point.from_latencies(
        [], batch_size=1, concurrency=None, request_rate=12.5, duration_s=1 / 3, warnings=("w",)
    )
    saved = report(
        points=(awkward, open_loop),
        spec="name: x\n",
        settings={"rule": {"a": [1, 2.5, None]}},
        ended_early="interrupted",
    )
    saved.to_json(tmp_path / "report.json")
    assert Report.from_json(tmp_path / "report.json") == saved


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no saved report"),
        ("[1, 2]", "no saved report"),
        ('{"tritonnb_report": 1}', "no saved report"),
        ('{"tritonnb_report": 2, "report": {}}', "format 2; this tritonnb reads format 1"),
        ('{"tritonnb_report": 1, "report": {"model": "m", "points": [{"batch_size": "x"}]}}', r"points\.0\.batch_size"),
        (b"\xff\xfe\x00", "no saved report"),
    ],
)
def test_a_file_that_is_no_report_is_told_what_is_wrong(tmp_path, content, told):
    path = tmp_path / "other.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError, match=told):
        Report.from_json(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SpecError, match=r"none\.json cannot be read"):
        Report.from_json(tmp_path / "none.json")


def test_a_file_cut_off_is_no_report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(report().to_json()[:-100])
    with pytest.raises(SpecError, match="no saved report"):
        Report.from_json(path)


def test_rows_are_flat_and_of_plain_values():
    rows = report().rows
    assert json.loads(json.dumps(rows)) == rows
    assert len(rows) == 9
    first = rows[0]
    assert (first["batch_size"], first["concurrency"], first["p50_us"]) == (1, 1, pytest.approx(6000, rel=1e-3))
    assert (first["queue_us"], first["compute_infer_us"], first["network_us"]) == pytest.approx((0, 4850, 1000))
    assert (first["stable"], first["client_idle_share"], first["request_rate"]) == (True, 0.9, None)


def test_a_point_of_a_server_that_keeps_no_account_has_the_same_columns():
    bare = Point.from_latencies([1e6], batch_size=1, concurrency=1, duration_s=1)
    unanswered = Point.from_latencies([], batch_size=1, concurrency=2, duration_s=1)
    rows = report(points=(point(1, 1), bare, unanswered)).rows
    assert list(rows[0]) == list(rows[1]) == list(rows[2])
    assert rows[1]["queue_us"] is rows[2]["p99_us"] is None


def test_pandas_has_a_row_for_each_point():
    frame = report().to_pandas()
    assert frame.shape[0] == 9
    np.testing.assert_allclose(frame.inferences_per_s, frame.requests_per_s * frame.batch_size)


def test_without_pandas_it_says_how_to_go_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SpecError, match=r"pip install pandas"):
        report().to_pandas()


# The header that perf_analyzer 2.51 writes with `-f FILE` and statistics of the server.
PERF_ANALYZER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
)


def test_the_csv_begins_with_perf_analyzer_s_own_columns(tmp_path):
    text = report().to_csv(tmp_path / "report.csv")
    assert text.startswith(PERF_ANALYZER + ",")
    assert (tmp_path / "report.csv").read_text() == text


def test_the_csv_splits_the_mean_as_perf_analyzer_does_and_is_sorted_by_throughput():
    rows = csv_rows(report().to_csv())
    assert [float(row["Inferences/Second"]) for row in rows] == sorted(float(row["Inferences/Second"]) for row in rows)
    for row in rows:
        parts = [int(value) for name, value in row.items() if name.startswith(("Client", "Server", "Network"))]
        assert sum(parts) == pytest.approx(int(row["Avg latency"]), abs=4)
    assert {(row["Batch Size"], row["Concurrency"]) for row in rows} == {(b, c) for b in "124" for c in "124"}


def test_the_csv_of_a_request_rate_has_its_own_first_column():
    timed = replace(point(1, 1), concurrency=None, request_rate=99.5)
    (row,) = csv_rows(report(points=(timed,), mode="poisson").to_csv())
    assert next(iter(row.items())) == ("Request Rate", "99.5")


def test_the_csv_leaves_empty_what_the_server_does_not_tell():
    bare = Point.from_latencies([1e6], batch_size=1, concurrency=1, duration_s=1)
    (row,) = csv_rows(report(points=(bare,)).to_csv())
    assert row["Server Queue"] == row["Network+Server Send/Recv"] == row["Instances"] == ""
    assert row["p50 latency"] == "1000"


@pytest.mark.usefixtures("full_output")
def test_the_table_reads_well():
    shown = repr(report(batch_sizes=(2,), concurrency=(1, 4)))
    title, header, *rows = shown.splitlines()
    assert title == "Measured steady, version 1: 2 points over http"
    assert header.split()[:4] == ["Batch", "Concurrency", "Inferences/s", "p50"]
    assert rows[1].split() == ["2", "4", "333", "24", "26.2", "26.4", "17", "6", "1", "2", "none"]


@pytest.mark.usefixtures("full_output")
def test_what_is_to_be_borne_in_mind_stands_below_the_table():
    doubtful = point(1, 1, warnings=("not stable",), stability=replace(point(1, 1).stability, stable=False))
    partial = report(points=(doubtful,), ended_early="interrupted", warnings=("The whole is odd.",))
    text = repr(partial)
    assert partial.partial
    assert "ended early: interrupted" in text.splitlines()[0]
    assert "(not stable)" in text.splitlines()[2]
    assert text.splitlines()[3:] == [
        "Ended early: interrupted.",
        "The whole is odd.",
        "batch 1, concurrency 1: not stable",
    ]


def test_under_stable_output_only_what_every_run_shares_is_shown():
    failing = report(points=(point(1, 1, errors={"HTTP 500": 7}), point(1, 4, warnings=("w",))))
    expected = [
        "Measured steady, version 1: 2 points over http",
        "  Batch  Concurrency  Failed",
        "  1      1            some",
    ]
    assert repr(failing).splitlines() == [*expected, "  1      4            none"]
    assert "<img" not in failing._repr_html_()


@pytest.mark.usefixtures("full_output")
def test_the_html_is_a_captioned_table_and_a_chart_with_words_and_escapes_names():
    html = report(model="<script>", warnings=("<i>",))._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "<caption>Measured &lt;script&gt;" in html
    assert '<img alt="' in html


@pytest.mark.usefixtures("full_output")
def test_instances_are_told_apart_only_where_they_differ():
    assert "Instances" not in repr(report())
    several = report(points=(point(1, 4), point(1, 4, instances=2)))
    assert several.label(several.points[1]) == "batch 1, concurrency 4, 2 instances"
    assert "Instances" in repr(several)


def test_a_comparison_matches_points_by_their_load():
    before = report()
    after = report(points=tuple(replace(p, duration_s=p.duration_s / 2) for p in report(batch_sizes=(2, 8)).points))
    rows = before.compare(after).rows
    assert [(row["batch_size"], row["concurrency"]) for row in rows] == [(2, 1), (2, 2), (2, 4)]
    assert [row["inferences_per_s_ratio"] for row in rows] == pytest.approx([2, 2, 2])
    assert [row["p95_us_ratio"] for row in rows] == [1, 1, 1]


def test_reports_of_one_count_of_instances_each_are_compared_whatever_it_is():
    one, two = report(points=(point(1, 4),)), report(points=(point(1, 4, instances=2),))
    (row,) = one.compare(two).rows
    assert row["inferences_per_s_ratio"] == pytest.approx(2)


def test_reports_without_a_common_load_are_told_so():
    with pytest.raises(SpecError, match=r"no load in common(.|\n)*batch 1, concurrency 1;"):
        report((1,), (1,)).compare(report((2,), (1,)))


@pytest.mark.usefixtures("full_output")
def test_a_comparison_says_what_else_differs():
    before = report((1,), (1,))
    after = report(
        (1,),
        (1,),
        config={**before.config, "max_batch_size": 4},
        machine={"cpus": "8"},
        settings={**before.settings, "shared_memory": True},
    )
    shown = repr(before.compare(after))
    assert "167 → 167 (+0%)" in shown
    assert "The configuration differs: max_batch_size was 8, is 4." in shown
    assert "The machine differs: cpus was 2, is 8." in shown
    assert "The setting differs: shared_memory was unknown, is True." in shown
    assert '<img alt="' in before.compare(after)._repr_html_()


def test_a_comparison_of_a_point_that_failed_has_no_ratio():
    failed = Point.from_latencies([], batch_size=1, concurrency=1, duration_s=1, errors={"HTTP 500": 1})
    (row,) = report((1,), (1,)).compare(report(points=(failed,))).rows
    assert (row["inferences_per_s_ratio"], row["p95_us_ratio"]) == (0, None)
