"""NVIDIA's perf_analyzer as a peer to measure against.

The last release that runs on glibc < 2.38 is the program inside the wheel of tritonclient 2.51.0; it is put under
``build/`` by itself. Two libraries that it needs lie in the engine's nvidia-pytriton under other names.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "build" / "perf_analyzer"
WHEEL = "tritonclient==2.51.0"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


@dataclass(frozen=True)
class Seen:
    """What a load generator says of a load: seconds, and the CPU seconds of its processes."""

    requests_per_s: float
    mean: float
    p50: float
    p99: float
    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float
    cpu: float


def install(home: Path) -> None:
    """Fetch the program, and find its libraries in the engine of tritonnb's home."""
    if not (FOLDER / "bin" / "perf_analyzer").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), WHEEL]
        subprocess.run(command, check=True)
    (FOLDER / "lib").mkdir(exist_ok=True)
    for name, pattern in LIBRARIES.items():
        found = next(home.glob(f"engines/*/lib/*/site-packages/nvidia_pytriton.libs/{pattern}"))
        (FOLDER / "lib" / name).unlink(missing_ok=True)
        (FOLDER / "lib" / name).symlink_to(found)


def measure(address: str, model: str, concurrency: int, *, batch: int, interval_s: int) -> Seen:
    """Measure a model over HTTP by three windows, which may differ as they like, so that every run gives a result."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.csv")
        command = [FOLDER / "bin" / "perf_analyzer", "-m", model, "-u", address, "-i", "http", "--verbose-csv"]
        command += ["--concurrency-range", str(concurrency), "-b", str(batch), "-f", report]
        command += ["-p", str(interval_s * 1000), "-r", "3", "-s", "900"]
        before = children_cpu()
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(FOLDER / "lib")},
            stdout=subprocess.DEVNULL,
        )
        cpu = children_cpu() - before
        with report.open(newline="") as lines:
            row = next(csv.DictReader(lines))

    def seconds(column: str) -> float:
        return float(row[column]) / 1e6

    return Seen(
        float(row["Inferences/Second"]) / batch,
        seconds("Avg latency"),
        seconds("p50 latency"),
        seconds("p99 latency"),
        *(seconds(f"Server {part}") for part in ("Queue", "Compute Input", "Compute Infer", "Compute Output")),
        cpu,
    )


def children_cpu() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
