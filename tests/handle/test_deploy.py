"""A deployment comes up, serves, fails in words and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from python_models import python_model

import tritonnb as tn
from tritonnb.errors import DeploymentError, InferenceError, PortInUseError, SpecError, TritonNbError
from tritonnb.home import home

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def left_behind(name: str) -> list[object]:
    """Return the folders, regions and processes of the deployments of this name."""
    folders = list((home() / "deployments").glob(f"{name}-*"))
    regions = list(Path("/dev/shm").glob(f"tritonnb_{name}-*"))
    servers = [
        p for p in psutil.process_iter(["cmdline"]) if f"deployments/{name}-" in " ".join(p.info["cmdline"] or [])
    ]
    return [*folders, *regions, *servers]


def test_a_repository_without_any_config_serves_from_deploy_to_delete(repository, eventually):
    with tn.deploy(repository, name="whole") as dep:
        assert dep.state == "ready"
        assert dep.url.startswith("http://127.0.0.1:")
        assert dep.scoring_uri == dep.url
        assert dep.health().ready
        assert [(m.name, m.version, m.state) for m in dep.models()] == [("square", "1", "READY")]
        metadata = dep.metadata("square")
        assert [(t.name, t.datatype, t.shape) for t in metadata.inputs] == [("x", "FP32", (-1, 4))]
        assert dep.config("square")["backend"] == "onnxruntime"
        np.testing.assert_array_equal(dep.infer("square", {"x": X})["y"], X * X)
        # Triton counts after it has answered.
        assert eventually(lambda: dep.statistics("square")[0]["inference_count"] == 2)
        assert "successfully loaded 'square'" in dep.get_logs()
        assert dep.get_logs(1) == dep.get_logs().splitlines()[-1]
        assert left_behind("whole")
    assert dep.state == "stopped"
    assert not left_behind("whole")
    assert not dep.health().live


def test_delete_takes_less_than_five_seconds_and_may_be_repeated(repository):
    dep = tn.deploy(repository, name="short")
    began = time.monotonic()
    dep.delete()
    dep.delete()
    assert time.monotonic() - began < 5


def test_one_bad_model_shows_its_reason_and_takes_no_other_down(repository, add_model, square):
    add_model("cut", "model.onnx", square[:30])
    add_model("text", "model.onnx", b"this is no model")
    add_model("typo", "model.onnx", square, config='name: "typo"\nmax_batchsize: 4\n')
    add_model("raises", "model.py", python_model(initialize='raise ValueError("no weights here")'))
    with tn.deploy(repository, name="mixed") as dep:
        assert dep.state == "degraded"
        np.testing.assert_array_equal(dep.infer("square", {"x": X})["y"], X * X)
        reasons = {m.name: m.reason for m in dep.models() if m.state != "READY"}
        assert set(reasons) == {"cut", "text", "typo", "raises"}
        assert "ONNX" in reasons["cut"]
        assert "no weights here" in reasons["raises"]
        assert "line 2" in reasons["typo"].lower() or "2:1" in reasons["typo"]
        assert "max_batch_size" in reasons["typo"]
        with pytest.raises(DeploymentError, match=r"'raises' is not ready.*no weights here"):
            dep.infer("raises", {"x": X})
        assert "no weights here" in repr(dep)


def test_a_model_that_was_mended_is_served_after_a_load(repository, add_model, square):
    add_model("cut", "model.onnx", square[:30])
    with tn.deploy(repository, name="mended") as dep:
        with pytest.raises(TritonNbError, match="ONNX"):
            dep.load("cut")
        assert dep.state == "degraded"
        add_model("cut", "model.onnx", square)
        dep.load("cut")
        assert dep.state == "ready"
        assert dep.infer("cut", {"x": X})["y"].shape == (2, 4)
        dep.unload("cut")
        with pytest.raises(TritonNbError, match="cut"):
            dep.infer("cut", {"x": X})


def test_a_deployment_whose_models_all_fail_raises_their_reasons_and_leaves_nothing(tmp_path, square):
    (tmp_path / "bad.onnx").write_bytes(square[:40])
    with pytest.raises(DeploymentError, match=r"No model of deployment 'hopeless' could be loaded.\n  bad: ") as caught:
        tn.deploy(tmp_path / "bad.onnx", name="hopeless")
    assert "ONNX" in str(caught.value)
    assert not left_behind("hopeless")
    assert "hopeless" not in [d.name for d in tn.deployments()]


def test_a_server_that_ends_at_once_is_told_with_its_own_words_and_not_waited_for(repository):
    began = time.monotonic()
    with pytest.raises(TritonNbError, match=r"no flag 'log-verbus'.\n.*did you mean 'log-verbose'"):
        tn.deploy(repository, name="flags", server={"flags": {"log-verbus": "1"}})
    assert time.monotonic() - began < 20
    assert not left_behind("flags")


def test_a_server_that_is_killed_while_it_serves_is_failed_and_says_so(repository):
    with tn.deploy(repository, name="killed") as dep:
        os.kill(dep._run.engine._process.pid, signal.SIGKILL)
        with pytest.raises(TritonNbError, match="killed by signal 9"):
            dep.infer("square", {"x": X})
        assert dep.state == "failed"
        with pytest.raises(DeploymentError, match="has failed"):
            dep.metadata("square")
    assert not left_behind("killed")


def test_a_model_that_lost_a_process_is_degraded_though_triton_calls_it_ready(repository):
    with tn.deploy(repository, name="lost") as dep:
        os.kill(next(iter(dep._run.engine._stubs["square"])).pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while dep.state == "ready" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert dep.state == "degraded"
        (model,) = dep.models()
        assert model.state == "DEGRADED"
        assert "1 of its 2 processes died" in model.reason
        dep.load("square")
        assert dep.state == "ready"
        assert dep.infer("square", {"x": X})["y"].shape == (2, 4)


def test_a_fixed_port_is_used_and_a_busy_one_is_an_error(repository):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} "):
            tn.deploy(repository, name="busy", server={"http_port": port})
        assert not left_behind("busy")
    with tn.deploy(repository, name="busy", server={"http_port": port}) as dep:
        assert dep.url == f"http://127.0.0.1:{port}"


def test_administration_needs_the_key_and_inference_only_with_auth(repository):
    import urllib.error
    import urllib.request

    def status(url: str, headers, data=None) -> int:
        try:
            return urllib.request.urlopen(urllib.request.Request(url, data, headers)).status
        except urllib.error.HTTPError as error:
            return error.code

    with tn.deploy(repository, name="open") as dep:
        assert status(f"{dep.url}/v2/models/square", {}) == 200
        assert status(f"{dep.url}/v2/repository/index", {}, b"{}") == 403
        assert status(f"{dep.url}/v2/repository/index", dep.headers, b"{}") == 200
        (key,) = dep.get_keys()
        assert key not in repr(dep) + repr(dep.endpoint) + dep.get_logs()
    with tn.deploy(repository, name="guarded", auth=True) as dep:
        assert status(f"{dep.url}/v2/health/ready", {}) == 403
        assert status(f"{dep.url}/v2/health/ready", {"Authorization": "Bearer wrong"}) == 403
        assert status(f"{dep.url}/v2/health/ready", dep.headers) == 200
        assert dep.infer("square", {"x": X})["y"].shape == (2, 4)


def test_without_waiting_it_starts_and_says_when_it_is_ready(repository, add_model, capsys):
    add_model("slow", "model.py", python_model(initialize="time.sleep(1)"))
    with tn.deploy(repository, name="later", wait=False) as dep:
        assert dep.state == "starting"
        with pytest.raises(DeploymentError, match="still starting"):
            dep.infer("square", {"x": X})
        dep.wait_for_deployment(show_output=True)
        assert dep.state == "ready"
        assert "successfully loaded 'slow'" in capsys.readouterr().out


def test_a_start_that_takes_too_long_is_given_up_and_leaves_nothing(repository, add_model):
    add_model("stuck", "model.py", python_model(initialize="time.sleep(60)"))
    with pytest.raises(DeploymentError, match="was not ready after 3 s"):
        tn.deploy(repository, name="stuck", timeout=3)
    assert not left_behind("stuck")


def test_ctrl_c_while_deploying_stops_what_was_begun(repository, add_model):
    add_model("stuck", "model.py", python_model(initialize="time.sleep(60)"))

    def interrupt():
        while not list((home() / "deployments").glob("interrupted-*/process.json")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt, match="was stopped; nothing of it is left"):
        tn.deploy(repository, name="interrupted")
    assert not left_behind("interrupted")


def test_the_same_name_and_spec_are_reused_and_what_changed_in_the_files_is_taken_over(repository, add_model, square):
    with tn.deploy(repository, name="twice") as first:
        url = first.url
        add_model("second", "model.onnx", square)
        assert tn.deploy(repository, name="twice") is first
        assert first.url == url
        assert {model.name for model in first.models()} == {"square", "second"}


def test_a_name_that_runs_with_another_spec_is_shown_as_a_diff_and_replaced_only_when_asked(repository):
    with tn.deploy(repository, name="twice") as first:
        with pytest.raises(DeploymentError, match=r"(?s)runs already with another spec:.*\n  \+auth: true") as caught:
            tn.deploy(repository, name="twice", auth=True)
        assert "--replace" in caught.value.hint
        assert first.state == "ready"
        with tn.deploy(repository, name="twice", auth=True, replace=True) as second:
            assert first.state == "stopped"
            assert tn.deployment() is second
            assert tn.deployment("twice") is second
    with pytest.raises(DeploymentError, match="No deployment"):
        tn.deployment("twice")


def test_after_delete_every_call_says_that_it_is_gone(repository):
    dep = tn.deploy(repository, name="gone")
    dep.delete()
    for call in (dep.models, dep.get_logs, lambda: dep.infer("square", {"x": X}), lambda: dep.metadata("square")):
        with pytest.raises(DeploymentError, match="'gone' was deleted"):
            call()


def test_a_model_of_another_name_gets_the_nearest_one(repository):
    with tn.deploy(repository, name="names") as dep:
        with pytest.raises(TritonNbError, match="did you mean 'square'"):
            dep.metadata("sqare")
        with pytest.raises(InferenceError, match="did you mean 'x'"):
            dep.infer("square", {"xx": X})


def test_a_field_that_no_engine_serves_yet_is_said_so(repository):
    with pytest.raises(SpecError, match="does not serve these fields of the spec yet: engine: kubernetes, kubern"):
        tn.deploy(repository, engine="kubernetes", kubernetes={"replicas": 2})


def test_a_field_that_the_engine_cannot_serve_is_said_so(repository):
    with pytest.raises(SpecError, match=r"embedded engine .*: gpus, server.shm_size cannot be had.\n.*engine: docker"):
        tn.deploy(repository, engine="embedded", gpus="all", server={"shm_size": "2g"})


def test_a_model_in_memory_is_served(square):
    import onnx

    with tn.deploy(onnx.load_from_string(square), name="memory") as dep:
        (model,) = dep.models()
        np.testing.assert_array_equal(dep.infer(model.name, {"x": X})["y"], X * X)


def test_a_spec_file_with_triton_keys_is_served(tmp_path, repository):
    (tmp_path / "spec.yaml").write_text(
        "name: written\n"
        "models:\n"
        "  double:\n"
        "    path: models/square\n"
        "    max_batch_size: 2\n"
        "    instance_group: [{count: 1, kind: KIND_CPU}]\n"
    )
    with tn.deploy(tmp_path / "spec.yaml") as dep:
        assert dep.name == "written"
        config = dep.config("double")
        assert (config["max_batch_size"], config["instance_group"][0]["count"]) == (2, 1)
        assert dep.infer("double", {"x": X})["y"].shape == (2, 4)
        with pytest.raises(DeploymentError, match=r"no model 'duoble'.*\n.*did you mean 'double'"):
            dep.load("duoble")
