"""Servers to measure: one that answers after known delays, and a real one with models made for these tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from python_models import python_model

from tritonnb.endpoint import Endpoint

CHAIN = """
platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
ensemble_scheduling {
  step {
    model_name: "sleeper" model_version: -1
    input_map { key: "x" value: "x" } output_map { key: "y" value: "between" }
  }
  step {
    model_name: "alone" model_version: -1
    input_map { key: "x" value: "between" } output_map { key: "y" value: "y" }
  }
}
"""


@pytest.fixture
def known_server():
    """Start a `truth_server` that does as it is told; return its endpoint."""
    processes = []

    def start(**told):
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("truth_server.py")), json.dumps(told)], stdout=subprocess.PIPE
        )
        processes.append(process)
        return Endpoint(f"http://127.0.0.1:{int(process.stdout.readline())}")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def truth_us():
    """Ask a known server how long each request took it, in microseconds."""

    def ask(endpoint):
        with urllib.request.urlopen(f"{endpoint.url}/truth") as answer:
            return np.array(json.loads(answer.read())) / 1e3

    return ask


@pytest.fixture(scope="session")
def measured_models(tmp_path_factory, square):
    """Return a repository: a quick model that batches, one that does not, and some that fail."""
    folder = tmp_path_factory.mktemp("measured")
    instance = "instance_group [{ count: 1 kind: KIND_CPU }]\n"
    (folder / "square" / "1").mkdir(parents=True)
    (folder / "square" / "1" / "model.onnx").write_bytes(square)
    (folder / "square" / "config.pbtxt").write_text(f"max_batch_size: 8\ndynamic_batching {{ }}\n{instance}")
    for name, source in {
        "alone": python_model(),
        "failing": python_model(execute="raise ValueError('the ink has run out')"),
        "every_tenth": python_model(
            initialize="self.count = 0",
            execute="self.count += 1\n        if self.count % 10 == 0: raise ValueError('every tenth fails')",
        ),
        "sleeper": python_model(execute="time.sleep(0.02)"),
    }.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.py").write_text(source)
        (folder / name / "config.pbtxt").write_text(f'backend: "python"\n{instance}')
    (folder / "chain" / "1").mkdir(parents=True)
    (folder / "chain" / "config.pbtxt").write_text(CHAIN)
    return folder


@pytest.fixture(scope="session")
def measured(measured_models):
    """Return a deployment of these models on a real tritonserver, for all tests of this folder."""
    import tritonnb as tn

    with tn.deploy(measured_models, name="measure-tests", engine="embedded") as deployment:
        yield deployment


@pytest.fixture
def eventually():
    """Wait for a condition, for at most some seconds; return whether it came."""

    def wait(condition, within: float = 10.0) -> bool:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    return wait
