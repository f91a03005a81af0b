"""What one look at a server shows: the numbers behind the health panel."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tritonnb import records
from tritonnb.errors import TritonNbError
from tritonnb.handle import Deployment
from tritonnb.render.html import Badge, table
from tritonnb.render.text import stable_output, text_table
from tritonnb.running import age_text
from tritonnb.widgets.traffic import History, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonnb.client import Health
    from tritonnb.handle import Served

_SAMPLE = re.compile(r"^(nv_(?:gpu|cpu)_\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_GPU = re.compile(r'gpu_uuid="([^"]*)"')


class Table(NamedTuple):
    """What `tritonnb.render.html.table` takes."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]


@dataclass(frozen=True, repr=False)
class Look:
    """How a server was at one moment.

    Parameters
    ----------
    health
        The state of the server and of its models.
    url, grpc_url, metrics_url
        Where it answers.
    engine
        What runs it; ``connection`` where that is somebody else's.
    release
        The version that Triton tells; empty while it does not answer.
    age_s
        Seconds since it was started; None where that is not known.
    traffic
        What all models did in the last minute.
    by_model
        The same of each.
    machine
        What the server's metrics tell of CPU and GPUs, in words by name.
    steps
        The last minutes in steps: how many seconds ago each ended, and what all models did in it.
    """

    health: Health
    url: str = ""
    grpc_url: str = ""
    metrics_url: str = ""
    engine: str = ""
    release: str = ""
    age_s: float | None = None
    traffic: Traffic = field(default_factory=Traffic)
    by_model: Mapping[str, Traffic] = field(default_factory=dict)
    machine: tuple[tuple[str, str], ...] = ()
    steps: tuple[tuple[float, Traffic], ...] = ()

    @property
    def gone(self) -> bool:
        """Whether the deployment was deleted, so that no later look can show anything else."""
        return self.health.state == "stopped"

    @property
    def models_text(self) -> str:
        """How many of the models are ready, in words."""
        ready = sum(model.state == "READY" for model in self.health.models)
        return f"{ready} of {len(self.health.models)} ready" if self.health.models else "none"

    def tables(self) -> list[Table]:
        """Return it as tables; without what changes from run to run where output is compared."""
        health, stable = self.health, stable_output()
        server: list[tuple[object, ...]] = [
            ("State", Badge(health.state)),
            ("Models", self.models_text),
            ("Engine", self.engine),
        ]
        if not stable:
            server += [
                ("Release", self.release or "-"),
                ("Up for", "-" if self.age_s is None else age_text(self.age_s)),
                ("HTTP", self.url or "-"),
                ("gRPC", self.grpc_url or "-"),
                ("Metrics", self.metrics_url or "-"),
                *self.machine,
            ]
        if health.restarts:
            server.append(("Started again", f"{health.restarts} times"))
        columns: tuple[str, ...] = ("Model", "Version", "State", "Reason")
        rows: list[tuple[object, ...]] = [(m.name, m.version or "-", Badge(m.state), m.reason) for m in health.models]
        if not stable:
            columns = (*columns[:3], "Requests/s", "Failures/s", "Queue ms", "Latency ms", "Reason")
            rows = [(*row[:3], *_numbers(self.by_model.get(str(row[0]))), row[3]) for row in rows]
        models = Table("Models" if stable else "Models, over the last minute", columns, rows)
        return [Table("Server", ("", ""), server), *([models] if rows else [])]

    def __repr__(self) -> str:
        return "\n".join(text_table(t.caption, t.rows, t.columns if any(t.columns) else ()) for t in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table(*part) for part in self.tables())


class Looker:
    """Looks at a server again and again. Not thread-safe: one poller has it.

    Parameters
    ----------
    handle
        The deployment or connection.
    clock
        Gives seconds that only grow.
    """

    def __init__(self, handle: Served, clock: Callable[[], float] = time.monotonic) -> None:
        self.handle = handle
        self._clock = clock
        self._history = History()
        self._release = ("", "")  # of which address

    def look(self) -> Look:
        """Ask the server how it is; one that does not answer is a look as well."""
        handle = self.handle
        health = handle.health()
        engine = handle.engine if isinstance(handle, Deployment) else "connection"
        if not health.live:
            return Look(health, engine=engine)
        release, machine = "", tuple[tuple[str, str], ...]()
        try:
            # What is measured ends here, not where the asking began: a look may be held up by a busy machine.
            statistics = handle.statistics()
            self._history.add(self._clock(), statistics)
            release = self._known_release()
            machine = in_words(handle.metrics()) if handle.metrics_url else ()
        except TritonNbError:
            pass  # it went away in the middle, or tells somebody else's key less; the next look shows it
        names = sorted({model.name for model in health.models})
        return Look(
            health,
            handle.url,
            handle.grpc_url,
            handle.metrics_url,
            engine,
            release,
            _age_s(handle),
            self._history.traffic(),
            {name: self._history.traffic(name) for name in names},
            machine,
            tuple(self._history.steps()),
        )

    def _known_release(self) -> str:
        if self._release[0] != self.handle.url:
            self._release = (self.handle.url, str(self.handle.server_metadata().get("version", "")))
        return self._release[1]


def in_words(metrics: str) -> tuple[tuple[str, str], ...]:
    """Return what Prometheus metrics of Triton tell of the machine: shares in percent, memory in GB."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in _SAMPLE.findall(metrics):
        gpu = _GPU.search(labels)
        found.setdefault(f"GPU {gpu[1]}" if gpu else "CPU", {})[name.split("_", 2)[2]] = float(value)
    if (gpus := [name for name in found if name != "CPU"]) and len(gpus) == 1:
        found["GPU"] = found.pop(gpus[0])
    words = []
    for device, told in found.items():
        parts = []
        if "utilization" in told:
            parts.append(f"{told['utilization']:.0%} busy")
        if told.get("memory_total_bytes"):
            used = f"{told['memory_used_bytes'] / 1e9:.1f} of " if "memory_used_bytes" in told else ""
            parts.append(f"memory {used}{told['memory_total_bytes'] / 1e9:.1f} GB")
        if parts:
            words.append((device, ", ".join(parts)))
    return tuple(words)


def _numbers(traffic: Traffic | None) -> tuple[str, ...]:
    if traffic is None:
        return ("-",) * 4
    times = ("-" if value is None else f"{value:.3g}" for value in (traffic.queue_ms, traffic.latency_ms))
    return (f"{traffic.requests_per_s:.3g}", f"{traffic.failures_per_s:.3g}", *times)


def _age_s(handle: Served) -> float | None:
    mine = [record for record in records.records() if record.name == handle.name]
    return records.age_s(mine[0]) if mine and isinstance(handle, Deployment) else None
