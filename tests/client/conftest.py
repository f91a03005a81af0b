"""A server that misbehaves by script on a real socket, and a deployment of models made for these tests."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest


class ScriptedServer:
    """Gives the n-th connection to the n-th of its scripts, the last one to all that follow.

    A script is a function of the connection's socket; the connection is closed when it returns.
    """

    def __init__(self, scripts, tls=None):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._scripts = scripts
        self._tls = tls
        self.accepted = 0
        self._open = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self.accepted += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._run, args=(script, connection))
            self._threads.append(thread)
            thread.start()

    def _run(self, script, connection):
        # A client that gives up closes its end: that is what many of these tests are about.
        with suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            script(connection)
        connection.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()


@pytest.fixture
def scripted():
    """Return a function that starts a `ScriptedServer`."""
    servers = []

    def start(*scripts, tls=None):
        servers.append(ScriptedServer(scripts, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


ALL_TYPES = [
    "BOOL",
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    "FP16",
    "FP32",
    "FP64",
    "STRING",
]

ECHO = "".join(
    f'input {{ name: "in_{t}" data_type: TYPE_{t} dims: [-1] optional: true }}\n'
    f'output {{ name: "out_{t}" data_type: TYPE_{t} dims: [-1] }}\n'
    for t in ALL_TYPES
)
ONE_TENSOR = """
input {{ name: "x" data_type: TYPE_{0} dims: [-1, 2] }}
output {{ name: "y" data_type: TYPE_{0} dims: [-1, 2] }}
"""
ANSWER_INPUTS = """
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(t.name().replace("in_", "out_").replace("x", "y"), t.as_numpy()) for t in r.inputs()]
            )
            for r in requests
        ]
"""


def write_model(repository, name, config, execute, initialize=""):
    """Write a model of Triton's Python backend into a model repository."""
    version = repository / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(f'backend: "python"\n{config}')
    (version / "model.py").write_text(
        f"""
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {initialize or "pass"}

    def execute(self, requests):
{execute}
"""
    )


@pytest.fixture(scope="session")
def write_python_model():
    """Return `write_model`, for the repositories of single test modules."""
    return write_model


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a model repository: one model that echoes every datatype, one that fails, one that cannot load, ..."""
    repository = tmp_path_factory.mktemp("sources") / "repository"
    write_model(repository, "echo", f"max_batch_size: 4\n{ECHO}", ANSWER_INPUTS)
    write_model(repository, "untouched", f"max_batch_size: 4\n{ECHO}", ANSWER_INPUTS)
    write_model(repository, "changing", ONE_TENSOR.format("FP32"), ANSWER_INPUTS)
    write_model(repository, "slow", ONE_TENSOR.format("FP32"), f"        time.sleep(2)\n{ANSWER_INPUTS}")
    write_model(repository, "failing", ONE_TENSOR.format("FP32"), "        raise ValueError('the ink has run out')")
    write_model(
        repository, "broken", ONE_TENSOR.format("FP32"), ANSWER_INPUTS, "raise ValueError('the weights are missing')"
    )
    return repository


@pytest.fixture(scope="module")
def deployment(sources):
    """Return a deployment of these models on a real tritonserver."""
    import tritonnb as tn

    with tn.deploy(sources, name="client-tests") as deployment:
        yield deployment


@pytest.fixture(scope="module")
def endpoint(deployment):
    """Return where a real tritonserver answers."""
    return deployment.endpoint


@pytest.fixture(scope="module")
def client(endpoint):
    """Return a client of a real tritonserver."""
    from tritonnb.client import Client

    with Client(endpoint) as client:
        yield client
