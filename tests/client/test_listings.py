"""What is shown of lists, configurations, statistics, metrics and logs."""

from __future__ import annotations

import pytest

from tritonnb.client import Logs, Metrics, ModelConfig, ModelList, ModelState, Statistics
from tritonnb.errors import SpecError

EVIL = "<script>alert('&')</script>"
STATISTICS = Statistics(
    [
        {
            "name": "m",
            "version": "1",
            "inference_count": 8,
            "execution_count": 2,
            "inference_stats": {
                "success": {"count": 4, "ns": 1},
                "fail": {"count": 1, "ns": 5},
                "queue": {"count": 4, "ns": 2_000_000},
                "compute_input": {"count": 4, "ns": 1_000_000},
                "compute_infer": {"count": 4, "ns": 6_000_000},
                "compute_output": {"count": 4, "ns": 1_000_000},
            },
        },
        {"name": "idle", "version": "2"},
    ]
)
METRICS = Metrics(
    "# HELP nv_inference_count Number of inferences\n# TYPE nv_inference_count counter\n"
    'nv_inference_count{model="m",version="1"} 8\nnv_cpu_utilization 0.25\n'
)


@pytest.fixture
def volatile(monkeypatch):
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "")


def test_a_list_of_models_counts_the_ready_and_gives_reasons_in_a_line():
    models = ModelList([ModelState("a", "1", "READY"), ModelState("b", "", "UNAVAILABLE", "why\nand more")])
    assert repr(models) == "Models: 1 of 2 ready\n  a  1  READY\n  b  -  UNAVAILABLE  why"
    assert "and more" in models._repr_html_()
    assert repr(ModelList()) == "Models: 0 of 0 ready"


def test_a_configuration_shows_what_is_filled():
    config = ModelConfig(name="m", max_batch_size=0, input=[{"name": "x", "dims": [-1, 0], "reshape": {"shape": []}}])
    assert repr(config) == "Configuration of m, as the server completed it\n  input:\n  - name: x\n    dims: [-1, 0]"
    assert "<td>[{name: x, dims: [-1, 0]}]</td>" in config._repr_html_()
    assert config["max_batch_size"] == 0


def test_statistics_give_the_mean_of_a_request_in_milliseconds(volatile):
    assert [line.split() for line in repr(STATISTICS).splitlines()[2:]] == [
        ["m", "1", "8", "2", "1", "0.5", "2"],
        ["idle", "2", "0", "0", "0", "-", "-"],
    ]


def test_statistics_leave_times_out_of_stable_output():
    assert [line.split() for line in repr(STATISTICS).splitlines()[2:]] == [
        ["m", "1", "8", "2", "1"],
        ["idle", "2", "0", "0", "0"],
    ]


def test_metrics_leave_all_but_counts_out_of_stable_output():
    assert repr(METRICS) == ('Metrics: 2\n  nv_inference_count  model="m",version="1"  8\n  nv_cpu_utilization')


def test_metrics_show_every_value(volatile):
    assert repr(METRICS).splitlines()[2].split() == ["nv_cpu_utilization", "0.25"]


@pytest.mark.parametrize(("pattern", "found"), [("cpu", 1), ('model="m"', 1), ("^nv", 2), ("8", 0), ("HELP", 0)])
def test_a_pattern_is_looked_for_in_names_and_labels(pattern, found):
    assert len(METRICS.matching(pattern).splitlines()) == found


def test_a_wrong_pattern_is_told():
    with pytest.raises(SpecError, match=r"'\(' is no regular expression: missing \)"):
        METRICS.matching("(")


def test_logs_show_no_times_and_processes_in_stable_output():
    logs = Logs('I1122 19:04:03.060188 18211 model_lifecycle.cc:839] "loaded"\nprinted by a model')
    assert repr(logs) == 'I model_lifecycle.cc:839] "loaded"\nprinted by a model'
    assert "19:04" in logs


@pytest.mark.parametrize(
    "shown",
    [
        ModelList([ModelState(EVIL, EVIL, EVIL, EVIL)]),
        ModelConfig(name=EVIL, backend=EVIL),
        Statistics([{"name": EVIL, "version": EVIL}]),
        Metrics(f'm{{model="{EVIL}"}} 1'),
    ],
)
def test_nothing_a_server_says_becomes_html(shown):
    html = shown._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
