"""``%triton_bench`` in a real shell against a real server."""

from __future__ import annotations

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError, SpecError, UsageError
from tritonnb.magics import bench
from tritonnb.measure.report import Report

pytestmark = pytest.mark.requires("engine")


def test_it_measures_every_batch_size_under_every_load(serving, capsys):
    report = serving.run("%triton_bench square --batch 1,2 --concurrency 1,4 --requests 50")
    assert [(p.batch_size, p.concurrency) for p in report.points] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert [(p.requests, p.failed) for p in report.points] == [(50, 0)] * 4
    assert "name: serving" in report.spec
    assert "Recommendation for square" in capsys.readouterr().out


def test_numbers_and_inputs_may_be_variables(serving):
    serving.shell.user_ns |= {"sizes": [1, 3], "x": np.ones((4, 4), np.float32)}
    report = serving.run("%triton_bench square x=$x --batch $sizes --requests 20")
    assert [p.batch_size for p in report.points] == [1, 3]
    assert report.settings["inputs"] == "own"


def test_files_and_a_variable_keep_the_report(serving, tmp_path):
    shown = serving.run(
        f"%triton_bench square --requests 20 --json {tmp_path}/r.json --csv {tmp_path}/r.csv"
        f" --chart {tmp_path}/r.png -o kept;"
    )
    assert shown is None
    kept = serving.shell.user_ns["kept"]
    assert Report.from_json(tmp_path / "r.json") == kept
    assert (tmp_path / "r.csv").read_text().startswith("Concurrency,Inferences/Second,Client Send,")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_rate_is_measured_in_place_of_a_concurrency(serving):
    report = serving.run("%triton_bench square --rate 200 --poisson --requests 40")
    assert report.mode == "poisson"
    assert [(p.concurrency, p.request_rate) for p in report.points] == [(None, 200)]


def test_large_inputs_may_lie_in_shared_memory(serving):
    report = serving.run("%triton_bench square --shape x=4 --shared-memory --requests 20")
    assert report.settings["shared_memory"]
    assert [(p.requests, p.failed) for p in report.points] == [(20, 0)]


def test_counts_of_instances_are_measured_and_taken_back(serving):
    before = tn.deployment("serving").config("square")
    report = serving.run("%triton_bench square --instances 1,3 --requests 30")
    assert [p.instances for p in report.points] == [1, 3]
    assert tn.deployment("serving").config("square") == before
    assert report.config == before


def test_what_to_change_is_shown_and_nothing_is_changed(serving, capsys):
    before = tn.deployment("serving").config("square")
    serving.run("%triton_bench square --requests 30 --write-config;")
    assert "Nothing to change in the config.pbtxt of square." in capsys.readouterr().out
    assert tn.deployment("serving").config("square") == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--batch 1,two", r"--batch 'two' cannot be read(.|\n)*whole numbers"),
        ("--batch ,", "holds no number"),
        ("--p95 20", "write it with its unit: 20ms"),
        ("--p95 0ms", "is no latency"),
        ("--poisson", r"add --rate"),
        ("--json no/such/folder/r.json", "there is no such folder"),
        ("--chart r.doc", r"known: \.pdf, \.png, \.svg"),
        ("x=[1,2]", r"give a variable: x=\$array"),
        ("--shape x=a", "--shape 'a' cannot be read"),
        ("--shape 4", "names no input"),
        ("x=$x --zeros", "about inputs made up"),
        ("--concurency 2", "--concurrency"),
        ("--budget soon", "--budget 'soon' cannot be read"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_before_anything_is_measured(serving, line, told):
    with pytest.raises(UsageError, match=told):
        serving.run(f"%triton_bench square {line}")


@pytest.mark.parametrize(
    "line", ["--batch 0", "--batch 9999999", "--concurrency 0", "--instances 0", "--instances 999"]
)
def test_values_that_cannot_be_are_refused(serving, line):
    with pytest.raises(SpecError):
        serving.run(f"%triton_bench square {line}")


def test_a_model_that_is_not_ready_is_told_with_its_reason(serving):
    with pytest.raises(DeploymentError, match="'broken' is not ready"):
        serving.run("%triton_bench broken")


def test_a_latency_may_be_written_in_any_unit():
    assert [bench.p95_ms(text) for text in ("20ms", "0.5s", "800us", "1.5 ms", None)] == [20, 500, 0.8, 1.5, None]


def test_a_config_that_cannot_be_read_is_told_and_the_report_not_lost():
    from measured import report

    told = bench._change(report(config={"name": "steady", "hovercraft": 1}).recommend())
    assert "hovercraft" in told
    assert "upgrade it" in told


class Display:
    """What IPython's ``display(..., display_id=True)`` gives, remembering what it showed."""

    def __init__(self, first):
        self.shown = [first]

    def update(self, value):
        self.shown.append(value)


@pytest.fixture
def displays(monkeypatch):
    made = []

    def display(value, *, display_id):
        assert display_id
        made.append(Display(value))
        return made[-1]

    monkeypatch.setattr(bench, "display", display)
    return made


def test_the_charts_are_drawn_anew_after_each_point_and_taken_away_at_the_end(displays):
    from measured import point

    with bench.LiveChart("square", shown=True) as chart:
        chart.add(point(1, 1))
        chart.add(point(1, 2))
    (display,) = displays
    drawn = [figure.axes[0].get_lines()[0].get_xydata().shape[0] for figure in display.shown[:2]]
    assert drawn == [1, 2]
    assert display.shown[2].data == ""


def test_where_nobody_looks_nothing_is_drawn(displays):
    from measured import point

    with bench.LiveChart("square", shown=False) as chart:
        chart.add(point(1, 1))
    assert displays == []
