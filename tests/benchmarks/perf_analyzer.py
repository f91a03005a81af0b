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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent.parent.parent / "build" / "perf_analyzer"
WHEEL = "tritonclient==2.51.0"
#: Beside its windows, which it may make ten times as long.
ENDS_WITHIN_S = 60
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


@dataclass(frozen=True)
class Seen:
    """What a load generator says of a load: seconds, and the CPU seconds of its processes per request sent."""

    requests_per_s: float
    mean: float
    p50: float
    p99: float
    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float
    cpu_per_request: float


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


def measure(
    address: str, model: str, concurrency: int, *, batch: int, interval_s: int, answered: Callable[[], int]
) -> Seen:
    """Measure a model over HTTP by three windows, which may differ as they like, so that every run gives a result.

    On a busy machine the program may go on for minutes at a high concurrency: it is then tried again, at last by
    another rule.
    ``answered`` counts the server's answers.

    Raises
    ------
    RuntimeError
        It did not end, by any rule, or it failed.
    """
    by_time = ["-p", str(interval_s * 1000)]
    by_count = ["--measurement-mode", "count_windows", "--measurement-request-count", str(100 * concurrency)]
    for rule in (by_time, by_time, by_count):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.csv")
            command = [FOLDER / "bin" / "perf_analyzer", "-m", model, "-u", address, "-i", "http", "--verbose-csv"]
            command += ["--concurrency-range", str(concurrency), "-b", str(batch), "-f", report, "-r", "3", "-s", "900"]
            before = children_cpu(), answered()
            try:
                done = subprocess.run(
                    [*command, *rule],
                    env={**os.environ, "LD_LIBRARY_PATH": str(FOLDER / "lib")},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=ENDS_WITHIN_S + 10 * interval_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                print(f"perf_analyzer {' '.join(rule)} did not end at concurrency {concurrency}.", flush=True)
                continue
            if done.returncode or not report.exists():
                raise RuntimeError(f"perf_analyzer failed at concurrency {concurrency}: {done.stdout[-300:]}")
            spent = (children_cpu() - before[0]) / (answered() - before[1])
            with report.open(newline="") as lines:
                row = next(csv.DictReader(lines))
        parts = ("Queue", "Compute Input", "Compute Infer", "Compute Output")
        columns = ("Avg latency", "p50 latency", "p99 latency", *(f"Server {part}" for part in parts))
        seconds = (float(row[column]) / 1e6 for column in columns)
        return Seen(float(row["Inferences/Second"]) / batch, *seconds, spent)
    raise RuntimeError(f"perf_analyzer did not end at concurrency {concurrency}.")


def children_cpu() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
