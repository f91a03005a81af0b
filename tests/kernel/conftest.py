"""Real kernels for the tests of what a kernel's deployments do when it is interrupted, killed or in company."""

from __future__ import annotations

import secrets
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

import psutil
import pytest
from jupyter_client.manager import KernelManager

from tritonnb.home import home

# Answers y = x. At its gate it leaves the file "reached" and goes on once there is a file "open".
MODEL = """
import time
from pathlib import Path
import triton_python_backend_utils as pb_utils

def pass_gate():
    gate = Path({gate!r})
    (gate / "reached").touch()
    deadline = time.monotonic() + 60
    while not (gate / "open").exists() and time.monotonic() < deadline:
        time.sleep(0.005)

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}})
        return config

    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        {execute}
        arrays = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", array)]) for array in arrays]
"""


FIRST_CELL = """
import numpy as np, tritonnb as tn
%load_ext tritonnb
x = np.arange(4, dtype=np.float32)
"""


@dataclass
class Outcome:
    """What a cell gave."""

    text: str = ""
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = field(default_factory=list)


class Kernel:
    """A kernel of its own process, in which cells are run as a front end does it."""

    def __init__(self, folder: Path, first_cell: str = "") -> None:
        self._first_cell = f"{first_cell}\n{FIRST_CELL}"
        self.manager = KernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel(cwd=folder, extra_arguments=["--HistoryManager.enabled=False"])
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.run(self._first_cell)

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid

    def begin(self, code: str) -> str:
        """Begin a cell and return the id to ask for its outcome."""
        return self.client.execute(code)

    def outcome(self, cell: str, within: float = 60) -> Outcome:
        """Wait until a cell has ended and return what it gave."""
        outcome = Outcome()
        deadline = time.monotonic() + within
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"The cell had not ended after {within:g} s; so far: {outcome}") from None
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    outcome.text += content["text"]
                case "execute_result":
                    outcome.text += content["data"]["text/plain"]
                case "error":
                    outcome.ename, outcome.evalue = content["ename"], content["evalue"]
                    outcome.traceback = content["traceback"]
                case "status" if content["execution_state"] == "idle":
                    return outcome

    def run(self, code: str) -> str:
        """Run a cell that must not fail and return what it printed and its result's text."""
        outcome = self.outcome(self.begin(code))
        assert not outcome.ename, "\n".join(outcome.traceback)
        return outcome.text

    def wait_for_text(self, cell: str, part: str, within: float = 30) -> None:
        """Wait until a running cell has printed ``part``."""
        deadline = time.monotonic() + within
        text = ""
        while part not in text:
            message = self.client.get_iopub_msg(timeout=max(0, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") == cell and message["msg_type"] == "stream":
                text += message["content"]["text"]

    def restart(self) -> None:
        """Restart the kernel as "Restart" does when it is in a hurry: with SIGKILL."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()

    def close(self) -> None:
        """End the kernel, however it is by now."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)


class Gate:
    """Where a model halts until it is let through."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def reached(self) -> bool:
        return (self._folder / "reached").exists()

    def open(self) -> None:
        (self._folder / "open").touch()


@dataclass(frozen=True)
class Traces:
    """What a deployment has on this machine.

    Parameters
    ----------
    name
        Its name, from which its processes, folders and regions are told.
    ports
        Its ports, where they are known.
    """

    name: str
    ports: tuple[int, ...] = ()

    def __call__(self) -> list[str]:
        """Return what is there now: processes, folders, shared-memory regions, listening ports."""
        ours = [str(home() / kind / f"{self.name}-") for kind in ("deployments", "score")]
        processes = [
            f"process {' '.join(process.info['cmdline'])[:120]}"
            for process in psutil.process_iter(["cmdline"])  # a zombie has no command line
            if any(our in " ".join(process.info["cmdline"] or []) for our in ours)
        ]
        folders = [f"folder {folder}" for our in ours for folder in Path(our).parent.glob(f"{self.name}-*")]
        regions = [f"region {region}" for region in Path("/dev/shm").glob(f"tritonnb_{self.name}-*")]
        return [*processes, *folders, *regions, *(f"port {port}" for port in self.ports if listens(port))]

    def kinds(self) -> set[str]:
        """Return of what kinds there is something now: process, folder, region, port."""
        return {thing.split()[0] for thing in self()}


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def eventually():
    """Wait for a condition, for at most some seconds; return whether it came."""

    def wait(condition, within: float = 30.0) -> bool:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    return wait


@pytest.fixture
def new_kernel(tmp_path_factory):
    """Start kernels that the test may kill, with a first cell where one is given."""
    with ExitStack() as kernels:

        def start(first_cell: str = "") -> Kernel:
            kernel = Kernel(tmp_path_factory.mktemp("kernel"), first_cell)
            kernels.callback(kernel.close)
            return kernel

        yield start


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Return a kernel that the module's tests share; none may end it."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Return a repository with a model in two instances, ``echo``, that answers at once."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "echo")
    return folder


@pytest.fixture
def gated(tmp_path, unused_name):
    """Make a repository with a model ``gated`` that halts at a gate, in its initialize or in its execute."""

    def make(where: str) -> tuple[Path, Gate, Traces]:
        gate = tmp_path / "gate"
        write_model(tmp_path / "models", "gated", gate=str(gate), **{where: "pass_gate()"})
        return tmp_path / "models", Gate(gate), Traces(unused_name)

    return make


def write_model(repository: Path, name: str, *, gate: str = "", initialize: str = "pass", execute: str = "pass"):
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL.format(gate=gate, initialize=initialize, execute=execute))
    (folder.parent / "config.pbtxt").write_text("instance_group [{ kind: KIND_CPU, count: 2 }]\n")


@pytest.fixture(scope="session")
def deployed(models):
    """Deploy the models in a kernel and return the deployment's traces, from which its end can be told."""

    def deploy(kernel: Kernel, name: str = "") -> Traces:
        name = name or new_name()
        kernel.run(f"_ = %triton_deploy {models} --name {name} --engine embedded")
        ports = kernel.run(f"dep = tn.deployment('{name}')\nprint(dep.url, dep.grpc_url, dep.metrics_url)").split()
        traces = Traces(name, tuple(int(address.split(":")[-1].partition("/")[0]) for address in ports))
        assert traces.kinds() == {"process", "folder", "region", "port"}, "else their absence would say nothing"
        return traces

    return deploy


@pytest.fixture
def traces(unused_name):
    """Return the traces of a deployment that is still to be made."""
    return Traces(unused_name)


@pytest.fixture
def unused_name():
    """Return a deployment's name that nobody else uses."""
    return new_name()


def new_name() -> str:
    return f"kernel-{secrets.token_hex(3)}"
