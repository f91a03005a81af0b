"""How benchmarks show and keep what they measured: a table to read, JSON under ``bench-results/`` to compare."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "bench-results"


@dataclass(frozen=True)
class Series:
    """Repeated measurements of one thing.

    Parameters
    ----------
    name
        What was measured.
    seconds
        Every measurement, in order.
    """

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Target:
    """What was promised, and whether it was kept."""

    promise: str
    seen: str
    met: bool


def publish(benchmark: str, about: str, series: list[Series], target: Target) -> int:
    """Print the table, write ``bench-results/<benchmark>.json`` and return the process's exit status."""
    print(f"\n{benchmark}: {about}")
    width = max(len(one.name) for one in series)
    print(f"  {'':{width}}  {'median':>10}  {'least':>10}  {'most':>10}   runs")
    for one in series:
        figures = "  ".join(f"{value * 1e3:7.1f} ms" for value in (one.median, min(one.seconds), max(one.seconds)))
        print(f"  {one.name:{width}}  {figures}   {len(one.seconds):4}")
    print(f"  {target.promise}: {target.seen}, {'met' if target.met else 'MISSED'}")

    FOLDER.mkdir(exist_ok=True)
    kept = {
        "benchmark": benchmark,
        "about": about,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "seconds": {one.name: one.seconds for one in series},
        "target": {"promise": target.promise, "seen": target.seen, "met": target.met},
    }
    (FOLDER / f"{benchmark}.json").write_text(json.dumps(kept, indent=2) + "\n")
    return 0 if target.met else 1
