"""A server that fails is started again where the spec says so, with the models that it had, and this is told."""

from __future__ import annotations

import dataclasses
import signal
import threading

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.deploying import find
from tritonnb.errors import DeploymentError, TritonNbError
from tritonnb.supervise import SupervisedProcess

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def back_off(monkeypatch):
    """Set how long a supervisor that is started from now on waits before each new start of its server."""
    start = SupervisedProcess.start

    def set_to(*seconds: float) -> None:
        monkeypatch.setattr(
            SupervisedProcess,
            "start",
            lambda job, folder: start(dataclasses.replace(job, back_off_s=seconds), folder),
        )

    return set_to


def test_a_killed_server_comes_back_on_its_ports_with_the_models_that_were_loaded(
    repository, name, back_off, server_of, add_model, square, eventually
):
    add_model("away", "model.onnx", square)
    add_model("cut", "model.onnx", square[:30])
    back_off(0.5, 0.1)
    dep = tn.deploy(repository, name=name, restart="on-failure")
    addresses = dep.url, dep.grpc_url, dep.metrics_url
    dep.unload("away")
    server_of(name).kill()
    assert eventually(lambda: dep.state == "starting")
    assert dep.health().state == "starting"
    with pytest.raises(DeploymentError, match=r"failed and is being started again.\n.*wait_for_deployment"):
        dep.infer("square", {"x": X})
    dep.wait_for_deployment(timeout=20)
    np.testing.assert_array_equal(dep.infer("square", {"x": X})["y"], X * X)
    assert (dep.url, dep.grpc_url, dep.metrics_url) == addresses
    assert dep.health().restarts == 1
    assert "started again 1x" in repr(dep.health())
    assert dep.state == "degraded"  # by "cut", as before
    assert {model.name for model in dep.models() if model.state == "READY"} == {"square"}
    with pytest.raises(TritonNbError, match="away"):
        dep.infer("away", {"x": X})
    dep.load("away")
    assert dep.infer("away", {"x": X})["y"].shape == (2, 4)


def test_a_request_that_breaks_off_with_the_server_says_that_it_is_started_again(
    repository, name, back_off, server_of, slow
):
    slow.touch()
    back_off(1)
    dep = tn.deploy(repository, name=name, restart="on-failure")
    server = server_of(name)
    server.send_signal(signal.SIGSTOP)  # so that the request is under way when it dies
    threading.Timer(0.3, server.kill).start()
    with pytest.raises(DeploymentError, match="is being started again"):
        dep.infer("square", {"x": X})


def test_lost_processes_are_noticed_after_a_restart_too_and_not_before_there_are_any(
    repository, name, back_off, server_of, eventually
):
    back_off(0.1)
    dep = tn.deploy(repository, name=name, restart="on-failure")
    server_of(name).kill()
    assert eventually(lambda: dep.health().restarts == 1)
    states = set()
    assert eventually(lambda: states.add(dep.state) or dep.state == "ready")
    assert states <= {"starting", "ready"}
    server_of(name).children()[0].kill()
    assert eventually(lambda: dep.state == "degraded")
    dep.load("square")
    assert dep.state == "ready"
    assert dep.infer("square", {"x": X})["y"].shape == (2, 4)


def test_after_the_last_attempt_it_has_failed_and_says_how_often_it_was_tried(
    repository, name, back_off, server_of, eventually
):
    back_off(0.05, 0.05)
    dep = tn.deploy(repository, name=name, restart="on-failure")
    for restarts in range(3):
        assert eventually(lambda restarts=restarts: dep.health().restarts == restarts and dep.state == "ready")
        server_of(name).kill()
    assert eventually(lambda: dep.state == "failed")
    with pytest.raises(DeploymentError, match=r"killed by signal 9. It was started again 2x before"):
        dep.infer("square", {"x": X})
    assert dep.health().state == "failed"
    with pytest.raises(TritonNbError, match="killed by signal 9"):
        dep.wait_for_deployment(timeout=5)


def test_a_server_that_ends_as_it_was_told_to_is_not_started_again(repository, name, back_off, server_of, eventually):
    back_off(0.05)
    dep = tn.deploy(repository, name=name, restart="on-failure")
    server_of(name).terminate()
    assert eventually(lambda: dep.state == "failed")
    assert dep.health().restarts == 0


def test_without_restart_a_failed_server_stays_so(repository, name, back_off, server_of, eventually):
    back_off(0.05)
    dep = tn.deploy(repository, name=name)
    server_of(name).kill()
    assert eventually(lambda: dep.state == "failed")
    assert dep.health().restarts == 0


def test_a_kept_server_whose_maker_is_gone_is_started_again_and_found(
    repository, name, notebook, server_of, eventually
):
    maker = notebook()
    maker.run(f"tn.deploy({str(repository)!r}, name={name!r}, keep=True, restart='on-failure')")
    maker.kill()
    dep = find(name)
    server_of(name).kill()
    dep.wait_for_deployment(timeout=20)
    assert eventually(lambda: dep.health().restarts == 1)
    dep.wait_for_deployment(timeout=20)
    assert dep.infer("square", {"x": X})["y"].shape == (2, 4)


def test_a_deployment_can_be_deleted_while_its_server_waits_to_be_started_again(
    repository, name, back_off, server_of, eventually, left_behind
):
    back_off(60)
    dep = tn.deploy(repository, name=name, restart="on-failure")
    server_of(name).kill()
    assert eventually(lambda: dep.state == "starting")
    dep.delete()
    assert not left_behind(name)
