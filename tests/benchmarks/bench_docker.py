"""The Docker engine beside what it is compared with: ``docker run`` by hand, and the embedded engine.

The hand's way: the same image, arguments, mount, ports and limits given to the ``docker`` command, ``/v2/health/live``
asked every 10 ms, one request to load the model. Both ways in turn. Then requests per second, through a container and
from the embedded server, in turn too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import docker
import numpy as np
from bench_deploy import free_port
from results import Series, Target, publish

sys.path.insert(0, str(Path(__file__).parent.parent / "plugins"))
from docker_session import DOCKER

import tritonnb as tn
from tritonnb import samples

ROUNDS = 5
RATIO = 1.1
OR_ADDED_S = 0.3
REQUESTS = 4000
ENGINES = ("docker", "embedded")
AT_ONCE = 4


@dataclass(frozen=True)
class ByHand:
    """How to start the container of a deployment again without tritonnb."""

    command: list[str]
    port: int
    headers: dict[str, str]

    @classmethod
    def like(cls, deployment: tn.Deployment, models: Path) -> ByHand:
        """Take over what a deployment's container was given, with models and ports of its own."""
        name = next(one.name for one in deployments_of(deployment))
        with closing(client()) as daemon:
            told = daemon.api.inspect_container(name)
        host, config, (mount,) = told["HostConfig"], told["Config"], told["Mounts"]
        shutil.copytree(mount["Source"], models)
        ports = {inside: free_port() for inside in (8000, 8001, 8002)}
        options = [
            "--detach", "--init", "--name=tritonnb-by-hand", f"--user={config['User']}",
            f"--shm-size={host['ShmSize']}",
            f"--mount=type=bind,src={models},dst={mount['Destination']},readonly", "--log-driver=json-file",
            *(f"--ulimit={limit['Name']}={limit['Soft']}:{limit['Hard']}" for limit in host["Ulimits"] or ()),
            *(f"--publish=127.0.0.1:{outside}:{inside}" for inside, outside in ports.items()),
            *(f"--env={variable}" for variable in config["Env"]),
        ]  # fmt: skip
        return cls(["docker", "run", *options, config["Image"], *config["Cmd"]], ports[8000], dict(deployment.headers))

    def seconds_to_ready(self) -> float:
        """Start the container, load the model, and return how long that took; then remove the container."""
        began = time.perf_counter()
        subprocess.run(self.command, check=True, stdout=subprocess.DEVNULL)
        try:
            while not self.answers("/v2/health/live"):
                time.sleep(0.010)
            assert self.answers(f"/v2/repository/models/{samples.MODEL_NAME}/load", b"{}")
            assert self.answers(f"/v2/models/{samples.MODEL_NAME}/ready")
            return time.perf_counter() - began
        finally:
            subprocess.run(["docker", "rm", "--force", "tritonnb-by-hand"], check=True, stdout=subprocess.DEVNULL)

    def answers(self, path: str, body: bytes | None = None) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, self.headers)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


def client() -> docker.DockerClient:
    return docker.DockerClient(base_url=DOCKER.host, version="auto", timeout=60)


def deployments_of(deployment: tn.Deployment) -> list[docker.models.containers.Container]:
    with closing(client()) as daemon:
        return daemon.containers.list(filters={"label": f"tritonnb.deployment={deployment.name}"})


def deploy(models: Path, engine: str, name: str = "bench") -> tn.Deployment:
    if engine == "embedded":
        return tn.deploy(models, name=name, engine=engine)
    return tn.deploy(models, name=name, engine=engine, gpus="none", server={"image": DOCKER.image()})


def seconds_to_deploy(models: Path) -> float:
    began = time.perf_counter()
    with deploy(models, "docker"):
        return time.perf_counter() - began


def bench_deploy(models: Path, folder: Path) -> int:
    with deploy(models, "docker") as deployment:  # warms the caches
        by_hand = ByHand.like(deployment, folder)
    rounds = [(by_hand.seconds_to_ready(), seconds_to_deploy(models)) for _ in range(ROUNDS)]
    hand, ours = (
        Series(name, seconds)
        for name, seconds in zip(("docker run", "tn.deploy"), zip(*rounds, strict=True), strict=True)
    )
    ratio, added = ours.median / hand.median, ours.median - hand.median
    target = Target(
        f"at most {RATIO} times, or {OR_ADDED_S} s more",
        f"{ratio:.2f} times, {added * 1e3:+.0f} ms",
        ratio <= RATIO or added <= OR_ADDED_S,
    )
    return publish("docker-deploy", "EfficientNet-Lite0 in a container, from start to ready", [hand, ours], target)


def requests_per_second(deployment: tn.Deployment) -> float:
    """Return how many small requests are answered, from several threads at once."""
    x = np.ones((1, 16), np.float32)

    def ask() -> None:
        for _ in range(REQUESTS // AT_ONCE):
            deployment.infer("tiny", {"x": x})

    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return REQUESTS / (time.perf_counter() - began)


def bench_requests(folder: Path) -> int:
    from onnx import TensorProto, helper

    tensors = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "tiny", *tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    folder.mkdir()
    (folder / "tiny.onnx").write_bytes(model.SerializeToString())
    with ExitStack() as stack:
        served = [stack.enter_context(deploy(folder / "tiny.onnx", engine, f"bench-{engine}")) for engine in ENGINES]
        for deployment in served:  # warm
            requests_per_second(deployment)
        rounds = [[requests_per_second(deployment) for deployment in served] for _ in range(ROUNDS)]
    series = [
        Series(engine, rates, unit="/s", per_unit=1)
        for engine, rates in zip(ENGINES, zip(*rounds, strict=True), strict=True)
    ]
    return publish("docker-requests", f"requests per second to a tiny model, {AT_ONCE} threads", series)


def main() -> int:
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    if reason := DOCKER.missing() or ("" if shutil.which("docker") else "there is no `docker` command"):
        print(f"\ndocker: not measured: {reason}")
        return 0
    try:
        os.environ["DOCKER_HOST"] = DOCKER.host
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            samples.lay_out(folder / "models")
            return bench_deploy(folder / "models", folder / "by-hand") | bench_requests(folder / "tiny")
    finally:
        DOCKER.stop()


if __name__ == "__main__":
    sys.exit(main())
