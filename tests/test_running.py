"""What runs, as it is told of real deployments in every state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError
from tritonnb.running import age_text, owner_text, record_named, running, status
from tritonnb.supervise import started

SLOW = """
import time
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def initialize(self, args):
        time.sleep(600)
"""
CONFIG = """backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 }
"""


@pytest.fixture
def model(tmp_path, square):
    (tmp_path / "square.onnx").write_bytes(square)
    return tmp_path / "square.onnx"


def of(name):
    return next(one for one in running().deployments if one.name == name)


@pytest.mark.requires("engine")
def test_a_ready_deployment_is_told_with_its_models_owner_and_memory(model):
    with tn.deploy(model, name="told") as dep:
        told = of("told")
        assert (told.state, told.models_ready, told.models, told.engine) == ("ready", 1, 1, "embedded")
        assert (told.url, told.grpc_url, told.metrics_url) == (dep.url, dep.grpc_url, dep.metrics_url)
        assert (told.owner, told.owner_pid, told.keep) == ("this process", os.getpid(), False)
        assert 0 < told.age_s < 300
        server = psutil.Process(dep._run.engine._process.pid)
        stubs = [child.memory_info().rss for child in server.children(recursive=True)]
        assert len(stubs) >= 1
        assert told.memory_bytes == pytest.approx(server.memory_info().rss + sum(stubs), rel=0.1)
        dep.unload("square")
        assert of("told").state == "ready"
    assert "told" not in {one.name for one in running().deployments}


@pytest.mark.requires("engine")
def test_a_deployment_with_a_bad_model_is_degraded(model):
    model.with_name("bad.onnx").write_bytes(b"no ONNX")
    with tn.deploy(models=[model, model.with_name("bad.onnx")], name="mixed"):
        assert (of("mixed").state, of("mixed").models_ready) == ("degraded", 1)


@pytest.mark.requires("engine")
def test_a_deployment_that_still_loads_is_starting(tmp_path):
    (tmp_path / "slow" / "1").mkdir(parents=True)
    (tmp_path / "slow" / "1" / "model.py").write_text(SLOW)
    (tmp_path / "slow" / "config.pbtxt").write_text(CONFIG)
    with tn.deploy(tmp_path, name="loading", wait=False):
        assert of("loading").state == "starting"
        assert [one.state for one in status().deployments if one.name == "loading"] == ["starting"]


@pytest.mark.requires("engine")
@pytest.mark.parametrize(("restart", "state"), [("never", "failed"), ("on-failure", "starting")])
def test_a_deployment_whose_server_died_is_told_so(model, restart, state):
    with tn.deploy(model, name="died", restart=restart) as dep:
        os.kill(dep._run.engine._process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while (told := of("died").state) != state and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told == state
        assert of("died").memory_bytes is None


@pytest.mark.requires("engine")
def test_a_connection_to_a_server_that_is_gone_has_failed(model):
    with tn.deploy(model, name="far") as dep, tn.connect(dep.url, name="line"):
        dep.delete()
        told = {one.name: one for one in status().deployments}
        assert set(told) == {"line"}
        assert (told["line"].state, told["line"].engine, told["line"].owner_pid) == ("failed", "connection", None)


@pytest.mark.requires("engine")
def test_an_unknown_name_is_answered_with_the_nearest(model):
    with tn.deploy(model, name="here"), pytest.raises(DeploymentError, match=r"did you mean 'here'"):
        record_named("heer")


@pytest.mark.parametrize(
    ("arguments", "called"),
    [(["-c", "input()"], "python"), (["-u", "-m", "code", "-q"], "code"), (["-"], "python"), (["SCRIPT"], "wait.py")],
)
def test_a_process_is_called_by_its_module_or_script(tmp_path, arguments, called):
    script = tmp_path / "wait.py"
    script.write_text("input()")
    words = [str(script) if word == "SCRIPT" else word for word in arguments]
    with subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while psutil.Process(process.pid).cmdline()[1:] != words:
            time.sleep(0.001)
        assert owner_text(process.pid, started(process.pid)).startswith(called)
        process.kill()
    assert owner_text(process.pid, 1) == "ended"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_told_in_the_unit_that_fits(seconds, text):
    assert age_text(seconds) == text
