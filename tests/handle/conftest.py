"""Repositories for the tests of the handle, served for real."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

import tritonnb as tn
from tritonnb import records
from tritonnb.handle import Deployment
from tritonnb.home import home
from tritonnb.supervise import SupervisedProcess


@pytest.fixture
def repository(tmp_path, square):
    """A Triton repository with one good model."""
    folder = tmp_path / "models" / "square" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    return tmp_path / "models"


@pytest.fixture
def add_model(repository):
    """Add a model to the repository: a file of its version 1, and a config.pbtxt where one is given."""

    def add(name: str, file: str, content: str | bytes, config: str | None = None) -> None:
        folder = repository / name / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        if config is not None:
            (folder.parent / "config.pbtxt").write_text(config)

    return add


ANOTHER = """
import json, sys
import numpy as np
import tritonnb as tn
from tritonnb import deploying
x = np.arange(8, dtype=np.float32).reshape(2, 4)
for line in sys.stdin:
    code = json.loads(line)
    try:
        try:
            answer = repr(eval(compile(code, "<cell>", "eval")))
        except SyntaxError:
            exec(compile(code, "<cell>", "exec"))
            answer = ""
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer), flush=True)
"""


class Notebook:
    """Another process that runs cells with ``tn``, ``deploying`` and ``x`` at hand."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, code: str) -> None:
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return json.loads(self.process.stdout.readline())

    def run(self, code: str) -> str:
        """Run a cell that must not fail and return the repr of its value."""
        answer = self.try_to(code)
        assert not re.match(r"\w+(Error|Interrupted): ", answer), answer
        return answer

    def try_to(self, code: str) -> str:
        """Run a cell and return the repr of its value, or its error."""
        self.begin(code)
        return self.answer()

    def end(self) -> None:
        """End as a kernel does that is shut down."""
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def notebook():
    """Start another process that runs cells; ended after the test."""
    with ExitStack() as stack:

        def start() -> Notebook:
            notebook = Notebook()
            stack.callback(notebook.process.communicate)
            stack.callback(notebook.process.kill)
            return notebook

        yield start


@pytest.fixture
def left_behind():
    """Tell what a deployment of some name has on this machine: folders, shared-memory regions, processes."""

    def look(name: str) -> list[object]:
        folders = [*home().glob(f"deployments/{name}-*"), *home().glob(f"score/{name}-*")]
        regions = list(Path("/dev/shm").glob(f"tritonnb_{name}-*"))
        commands = ((process, " ".join(process.info["cmdline"] or [])) for process in psutil.process_iter(["cmdline"]))
        ours = (f"deployments/{name}-", f"score/{name}-")
        return [*folders, *regions, *(process for process, command in commands if any(our in command for our in ours))]

    return look


@pytest.fixture
def name(left_behind, eventually):
    """A deployment's name; whatever has it after the test is stopped, and nothing of it may be left."""
    name = f"life-{secrets.token_hex(3)}"
    yield name
    for handle in tn.deployments():
        if handle.name == name:
            handle.delete()
    while record := records.record_of(name):
        Deployment.attach(record).delete()
    assert eventually(lambda: not left_behind(name)), left_behind(name)


@pytest.fixture(scope="session")
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


@pytest.fixture
def server_of():
    """Return the process of the server of a deployment, as its folder tells it."""

    def find(name: str) -> psutil.Process:
        return psutil.Process(SupervisedProcess.attach(records.record_of(name).folder).pid)

    return find


@pytest.fixture
def slow(add_model, tmp_path):
    """Add a model ``slow`` that waits in its initialize; return the file that lets it go on."""
    gate = tmp_path / "gate"
    add_model("slow", "model.py", SLOW.format(gate=str(gate)), config="instance_group [{ kind: KIND_CPU }]\n")
    return gate


SLOW = """
import os, time
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}})
        return config
    def initialize(self, args):
        deadline = time.monotonic() + 30
        while not os.path.exists({gate!r}) and time.monotonic() < deadline:
            time.sleep(0.01)
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
                for r in requests]
"""
