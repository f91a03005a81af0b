"""Measuring through the handle: the counts of instances are put back whatever happens."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from python_models import python_model

import tritonnb as tn
from tritonnb.errors import DeploymentError, SpecError

pytestmark = pytest.mark.requires("engine")

CONFIG = "instance_group { count: 1 kind: KIND_CPU }"
SHAPES = {"x": [4]}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """A deployment of a Python model, ``slow``, that takes 10 ms."""
    folder = tmp_path_factory.mktemp("measured") / "models" / "slow"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(python_model(execute="time.sleep(0.01)"))
    (folder / "config.pbtxt").write_text(CONFIG)
    with tn.deploy(folder.parent, name="measured", server={"env": {"TOKEN": "s3cret"}}) as deployment:
        yield deployment


@pytest.fixture
def as_before(deployment):
    """Check that afterwards the model serves as it did before, from the files that it was staged from."""
    config, cells = deployment.config("slow"), deployment._run.cells.read()
    yield config
    assert deployment.config("slow") == config
    assert deployment._run.cells.read() == cells
    assert deployment.infer("slow", {"x": [1, 2, 3, 4]})["y"].tolist() == [1, 2, 3, 4]


def count(report):
    return [(point.instances, point.concurrency) for point in report.points]


@pytest.mark.usefixtures("as_before")
def test_more_instances_of_a_model_that_sleeps_answer_more_requests(deployment):
    report = deployment.measure("slow", shapes=SHAPES, instances=[1, 2], concurrency=[1, 4], requests=60)
    assert count(report) == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert report.points[3].requests_per_s > 1.3 * report.points[1].requests_per_s
    assert report.recommend().changes["instance_group"][0]["count"] == 2


@pytest.mark.usefixtures("as_before")
def test_ctrl_c_during_a_sweep_of_instances_returns_what_was_measured(deployment):
    def interrupt_at_the_second(point):
        if point.instances == 2:
            os.kill(os.getpid(), signal.SIGINT)

    report = deployment.measure(
        "slow",
        shapes=SHAPES,
        instances=[1, 2, 3],
        concurrency=[1, 2],
        requests=20,
        on_point=interrupt_at_the_second,
    )
    assert count(report)[:3] == [(1, 1), (1, 2), (2, 1)]
    assert len(report.points) < 6
    assert report.ended_early == "interrupted"


@pytest.mark.usefixtures("as_before")
def test_ctrl_c_before_anything_was_measured_is_ctrl_c(deployment):
    threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        deployment.measure("slow", shapes=SHAPES, instances=[2], warm_up_s=60)


@pytest.mark.usefixtures("as_before")
def test_a_callback_that_fails_leaves_the_model_as_it_was(deployment):
    def fail(_):
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        deployment.measure("slow", shapes=SHAPES, instances=[2], requests=10, on_point=fail)


@pytest.mark.usefixtures("as_before")
def test_a_model_that_is_served_from_a_cell_keeps_its_cell(deployment):
    with deployment._run.laying_over("slow") as lay:
        lay(CONFIG.replace("count: 1", "count: 2"))
        kept = deployment._run.cells.read()
        report = deployment.measure("slow", shapes=SHAPES, instances=[1], requests=10)
        assert count(report) == [(1, 1)]
        assert deployment._run.cells.read() == kept
        assert deployment.config("slow")["instance_group"][0]["count"] == 2


@pytest.mark.parametrize("instances", [[0], [-1], [1.5], ["2"], [1, 65]])
def test_counts_that_cannot_be_are_refused_before_anything_changes(deployment, instances):
    with pytest.raises(SpecError, match="instances cannot be served"):
        deployment.measure("slow", shapes=SHAPES, instances=instances)


def test_the_report_holds_the_spec_but_no_secret_and_no_key(deployment):
    report = deployment.measure("slow", shapes=SHAPES, requests=10)
    saved = report.to_json()
    assert "TOKEN" in report.spec
    assert "s3cret" not in saved
    for key in deployment.get_keys():
        assert key not in saved


def test_a_model_that_is_not_there_is_told_with_the_nearest(deployment):
    with pytest.raises(DeploymentError, match="did you mean 'slow'"):
        deployment.measure("slwo")


def test_a_connection_is_measured_as_it_is_but_not_with_other_instances(deployment):
    key = deployment.get_keys()[0]
    with tn.connect(deployment.url, key=key, name="theirs") as theirs:
        assert count(theirs.measure("slow", shapes=SHAPES, requests=10)) == [(1, 1)]
        with pytest.raises(SpecError, match="somebody else runs"):
            theirs.measure("slow", shapes=SHAPES, instances=[2])


def test_a_server_that_is_deleted_mid_sweep_gives_what_was_measured(tmp_path):
    (tmp_path / "models" / "slow" / "1").mkdir(parents=True)
    (tmp_path / "models" / "slow" / "1" / "model.py").write_text(python_model())
    (tmp_path / "models" / "slow" / "config.pbtxt").write_text(CONFIG)
    doomed = tn.deploy(tmp_path / "models", name="doomed")
    try:
        report = doomed.measure(
            "slow",
            shapes=SHAPES,
            instances=[1, 2],
            concurrency=[1, 2],
            requests=10,
            on_point=lambda point: threading.Thread(target=doomed.delete).start() if point.concurrency == 2 else None,
        )
    finally:
        doomed.delete()
    assert count(report)[:2] == [(1, 1), (1, 2)]
    assert report.partial
