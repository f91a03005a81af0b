"""Measuring an entry script through the handle."""

from __future__ import annotations

import pytest
from python_models import python_model

import tritonnb as tn
from tritonnb.errors import ScoringError, SpecError
from tritonnb.spec import Spec

pytestmark = pytest.mark.requires("engine")

SCRIPT = """
import json, time

def init():
    pass

def run(data):
    asked = json.loads(data)
    if asked == "fail":
        raise ValueError("the ink has run out")
    time.sleep(0.005)
    return asked
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """A deployment with an entry script of two workers, each of which takes 5 ms, behind a key."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "models" / "same" / "1").mkdir(parents=True)
    (folder / "models" / "same" / "1" / "model.py").write_text(python_model())
    (folder / "score.py").write_text(SCRIPT)
    with tn.deploy(
        folder / "models",
        name="scored-load",
        engine="embedded",
        auth=True,
        score={"entry_script": str(folder / "score.py"), "port": 0},
        environment={"variables": {"WORKER_COUNT": "2", "TOKEN": "s3cret"}},
    ) as deployment:
        yield deployment


def test_an_entry_script_is_measured_under_every_load(deployment):
    report = deployment.measure_run({"text": "hello"}, concurrency=[1, 4], requests=100)
    alone, four = report.points
    assert [point.concurrency for point in report.points] == [1, 4]
    assert [point.requests for point in report.points] == [100, 100]
    assert alone.latency.p50_us > 5000
    assert four.requests_per_s > 1.3 * alone.requests_per_s  # there are two workers
    assert alone.server_cpu_s + four.server_cpu_s > 0
    assert (report.model, report.unit) == ("scored-load/score", "requests")


def test_the_report_holds_the_spec_but_no_secret_and_no_key(deployment):
    report = deployment.measure_run(b"1", requests=5)
    assert Spec.from_yaml(report.spec).environment.variables == {"WORKER_COUNT": "2", "TOKEN": "..."}
    saved = report.to_json()
    assert "s3cret" not in saved
    for key in deployment.get_keys():
        assert key not in saved
    assert "s3cret" not in deployment.measure("same", shapes={"x": [4]}, requests=5).to_json()


def test_a_script_that_fails_is_told_with_its_own_line_before_anything_is_measured(deployment):
    with pytest.raises(ScoringError, match=r"the ink has run out(.|\n)*line 10"):
        deployment.measure_run('"fail"')


def test_a_load_that_cannot_be_is_refused(deployment):
    with pytest.raises(SpecError, match="concurrency is 0"):
        deployment.measure_run("1", concurrency=[0])
