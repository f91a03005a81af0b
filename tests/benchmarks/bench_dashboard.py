"""What an open dashboard costs its kernel: processor time while nothing happens, and while requests are answered."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from results import Series, Target, publish

import tritonnb as tn
from tritonnb import samples
from tritonnb.widgets import dashboard

ROUNDS = 5
SECONDS = 20.0
IDLE, BUSY = 0.01, 0.03

# The traffic comes from a process of its own, so that what it costs is not counted.
TRAFFIC = """
import sys, numpy as np, tritonnb as tn
there = tn.connect(sys.argv[1], key=sys.argv[2])
x = np.zeros((1, 3, 224, 224), np.float32)
while True:
    there.infer(sys.argv[3], {"data_0": x})
"""


def share() -> float:
    """Return how much of a core this process takes, over some seconds."""
    began, used = time.perf_counter(), time.process_time()
    time.sleep(SECONDS)
    return (time.process_time() - used) / (time.perf_counter() - began)


def main() -> int:
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    idle: list[float] = []
    busy: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        samples.lay_out(folder)
        with tn.deploy(folder, name="bench-dashboard", engine="embedded") as deployment:
            deployment.infer(samples.MODEL_NAME, {"data_0": np.zeros((1, 3, 224, 224), np.float32)})
            board = dashboard(deployment)
            for _ in range(ROUNDS):
                idle.append(share())
                command = [sys.executable, "-c", TRAFFIC, deployment.url, deployment.get_keys()[0], samples.MODEL_NAME]
                with subprocess.Popen(command) as traffic:
                    busy.append(share())
                    traffic.kill()
            board.close()
    series = [Series(name, tuple(shares), "%", 100) for name, shares in (("idle", idle), ("with traffic", busy))]
    targets = [
        Target(f"at most {limit:.0%} of a core", f"{series.median:.2%}", series.median <= limit)
        for series, limit in zip(series, (IDLE, BUSY), strict=True)
    ]
    return publish("dashboard", "Share of a core that an open dashboard takes", series, *targets)


if __name__ == "__main__":
    sys.exit(main())
