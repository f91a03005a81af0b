"""How benchmarks show and keep what they measured: a table to read, JSON under ``bench-results/`` to compare."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "bench-results"


@dataclass(frozen=True)
class Series:
    """Repeated measurements of one thing.

    Parameters
    ----------
    name
        What was measured.
    values
        Every measurement, in order, in seconds unless the unit says otherwise.
    unit, per_unit
        What is shown: a value times ``per_unit`` is so many of the ``unit``.
    """

    name: str
    values: tuple[float, ...]
    unit: str = "ms"
    per_unit: float = 1e3

    @property
    def median(self) -> float:
        """The median, as the values are."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Target:
    """What was promised, and whether it was kept."""

    promise: str
    seen: str
    met: bool


def publish(benchmark: str, about: str, series: list[Series], *targets: Target) -> int:
    """Print the table, write ``bench-results/<benchmark>.json`` and return the process's exit status."""
    print(f"\n{benchmark}: {about}")
    width = max((len(one.name) for one in series), default=0)
    print(f"  {'':{width}}  {'median':>10}  {'least':>10}  {'most':>10}   runs")
    for one in series:
        shown = (one.per_unit * value for value in (one.median, min(one.values), max(one.values)))
        figures = "  ".join(f"{f'{value:.1f} {one.unit}':>10}" for value in shown)
        print(f"  {one.name:{width}}  {figures}   {len(one.values):4}")
    for target in targets:
        print(f"  {target.promise}: {target.seen}, {'met' if target.met else 'MISSED'}")

    FOLDER.mkdir(exist_ok=True)
    kept = {
        "benchmark": benchmark,
        "about": about,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "values": {one.name: {"unit": one.unit, "per_unit": one.per_unit, "values": one.values} for one in series},
        "targets": [asdict(target) for target in targets],
    }
    (FOLDER / f"{benchmark}.json").write_text(json.dumps(kept, indent=2) + "\n")
    return 0 if all(target.met for target in targets) else 1
