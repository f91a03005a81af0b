"""From ``tn.deploy`` to ready, beside the same tritonserver started by hand with the same arguments and polled.

The hand's way: a copy of the deployment's folder (model repository and backends), the server's own command line and
environment on other ports, ``/v2/health/live`` asked every 10 ms, one request to load the model. Both ways in turn.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
from results import Series, Target, publish

import tritonnb as tn
from tritonnb import samples

ROUNDS = 5
RATIO = 1.2
OR_ADDED_S = 0.3


@dataclass(frozen=True)
class ByHand:
    """How to start the server of a deployment again without tritonnb."""

    command: list[str]
    environment: dict[str, str]
    port: int
    headers: dict[str, str]

    @classmethod
    def like(cls, deployment: tn.Deployment, folder: Path) -> ByHand:
        """Take over the arguments of a running deployment, with a folder and ports of its own."""
        server = next(
            process
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"]
            and process.info["cmdline"][0].endswith("/tritonserver")
            and f"--http-port={deployment.url.rpartition(':')[2]}" in process.info["cmdline"]
        )
        theirs = Path(server.cwd())
        shutil.copytree(theirs, folder)
        ports = {name: free_port() for name in ("--http-port", "--grpc-port", "--metrics-port")}
        options = dict(word.split("=", 1) for word in server.cmdline()[1:])
        options = {name: value.replace(str(theirs), str(folder)) for name, value in options.items()}
        options["--backend-config"] = "python,shm-region-prefix-name=tritonnb_by_hand_"
        options |= {name: str(port) for name, port in ports.items()}
        return cls(
            [server.cmdline()[0], *(f"{name}={value}" for name, value in options.items())],
            server.environ(),
            ports["--http-port"],
            dict(deployment.headers),
        )

    def seconds_to_ready(self) -> float:
        """Start the server, load the model, and return how long that took; then stop the server."""
        began = time.perf_counter()
        with subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as server:
            try:
                while not self.answers("/v2/health/live"):
                    time.sleep(0.010)
                assert self.answers(f"/v2/repository/models/{samples.MODEL_NAME}/load", b"{}")
                assert self.answers(f"/v2/models/{samples.MODEL_NAME}/ready")
                return time.perf_counter() - began
            finally:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()
                for region in Path("/dev/shm").glob("tritonnb_by_hand_*"):
                    region.unlink()

    def answers(self, path: str, body: bytes | None = None) -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, self.headers)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def seconds_to_deploy(models: Path) -> float:
    began = time.perf_counter()
    with tn.deploy(models, name="bench", engine="embedded"):
        return time.perf_counter() - began


def main() -> int:
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        samples.lay_out(models)
        with tn.deploy(models, name="bench", engine="embedded") as deployment:  # builds the engine, warms the caches
            by_hand = ByHand.like(deployment, Path(folder, "by-hand"))
        rounds = [(by_hand.seconds_to_ready(), seconds_to_deploy(models)) for _ in range(ROUNDS)]
    hand, ours = (
        Series(name, seconds) for name, seconds in zip(("by hand", "tn.deploy"), zip(*rounds, strict=True), strict=True)
    )
    ratio, added = ours.median / hand.median, ours.median - hand.median
    target = Target(
        f"at most {RATIO} times, or {OR_ADDED_S} s more",
        f"{ratio:.2f} times, {added * 1e3:+.0f} ms",
        ratio <= RATIO or added <= OR_ADDED_S,
    )
    return publish("deploy", "EfficientNet-Lite0, from start to ready", [hand, ours], target)


if __name__ == "__main__":
    sys.exit(main())
