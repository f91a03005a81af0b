"""The server's own account of a stretch of time: where it went, in which batches, on which CPUs and GPUs."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from tritonnb.client import Client, read_metrics
from tritonnb.client.transport import parse_url
from tritonnb.errors import ServerError, TritonNbError
from tritonnb.measure.point import Gpu, ServerTimes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tritonnb.endpoint import Endpoint

_ANSWER_WITHIN_S = 10.0
_LOOPBACK = ("127.", "localhost", "::1")
_GPU_SAMPLE = re.compile(r'^nv_gpu_(\w+)\{[^}]*gpu_uuid="([^"]*)"[^}]*\} (\S+)', re.MULTILINE)
_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Snapshot:
    """The server's counters at one moment; the growth between two of them is what happened meanwhile.

    Parameters
    ----------
    requests
        Answered well, by the model asked.
    spent_ns
        By part of the way: queue, compute_input, compute_infer, compute_output; of an ensemble, of all its models.
    batches
        Executions by batch size.
    cpu_s
        CPU seconds of the server's processes; None where they cannot be seen.
    gpus
        By GPU, the metrics without their ``nv_gpu_``.
    """

    requests: int
    spent_ns: Mapping[str, int]
    batches: Counter[int]
    cpu_s: float | None = None
    gpus: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Counters(Protocol):
    """What can be looked at while load is sent."""

    def look(self) -> Snapshot | None:
        """Return the counters now; None where there are none."""


class ServerSide:
    """Looks at a server from outside while it is under load.

    Parameters
    ----------
    client
        The server's client.
    endpoint
        Its addresses.
    model, version
        The model that is asked.
    config
        Its configuration: an ensemble's names the models that do its work.
    """

    def __init__(self, client: Client, endpoint: Endpoint, model: str, version: str, config: Mapping[str, Any]) -> None:
        self._client = client
        self._endpoint = endpoint
        self._model, self._version = model, version
        steps = config.get("ensemble_scheduling", {}).get("step", [])
        self._workers = sorted({step["model_name"] for step in steps})
        self._processes = server_processes(endpoint)
        self._metrics = bool(endpoint.metrics_url)

    def look(self) -> Snapshot | None:
        """Return the counters now; None where the server keeps none or does not answer."""
        try:
            own = self._client.statistics(self._model, self._version)
            work = [entry for name in self._workers for entry in self._client.statistics(name)] or own
        except ServerError:
            return None
        return Snapshot(
            sum(_of(entry, "inference_stats", "success", "count") for entry in own),
            {part: sum(_of(entry, "inference_stats", part, "ns") for entry in work) for part in _PARTS},
            Counter(_batches(own)),
            cpu_seconds(self._processes),
            self._gpus(),
        )

    def _gpus(self) -> dict[str, dict[str, float]]:
        if not self._metrics:
            return {}
        gpus: dict[str, dict[str, float]] = {}
        with contextlib.suppress(TritonNbError):
            for name, uuid, value in _GPU_SAMPLE.findall(read_metrics(self._endpoint)):
                gpus.setdefault(uuid, {})[name] = float(value)
        self._metrics = bool(gpus)  # where there are none, they need not be asked for again
        return gpus


def server_times(before: Snapshot, after: Snapshot) -> ServerTimes | None:
    """Return the means per request between two looks; None where nothing was answered or the counters began anew."""
    requests = after.requests - before.requests
    if requests <= 0:
        return None
    spent = (max(0, after.spent_ns[part] - before.spent_ns[part]) / requests / 1e3 for part in _PARTS)
    return ServerTimes(requests, *spent)


def executed_batches(before: Snapshot, after: Snapshot) -> dict[int, int]:
    """Return how often a batch of each size was executed between two looks."""
    return dict(sorted((after.batches - before.batches).items()))


def gpus_between(snapshots: Sequence[Snapshot]) -> tuple[Gpu, ...]:
    """Return the GPUs as the looks saw them: means of use, the most memory."""
    gpus = []
    for uuid in sorted({uuid for snapshot in snapshots for uuid in snapshot.gpus}):
        seen = [snapshot.gpus[uuid] for snapshot in snapshots if uuid in snapshot.gpus]
        gpus.append(
            Gpu(
                uuid,
                _mean(sample.get("utilization", 0.0) for sample in seen),
                int(max(sample.get("memory_used_bytes", 0) for sample in seen)),
                int(max(sample.get("memory_total_bytes", 0) for sample in seen)),
                _mean(sample.get("power_usage", 0.0) for sample in seen),
            )
        )
    return tuple(gpus)


def server_processes(endpoint: Endpoint) -> list[psutil.Process]:
    """Return the processes of a server of this machine that are ours to see, by the port that it listens at."""
    (host, port), _, _ = parse_url(endpoint.url)
    if not host.startswith(_LOOPBACK):
        return []
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.pid and _listens(connection, port):
                server = _first_of(psutil.Process(connection.pid), port)
                # Of a container only Docker's proxy can be seen.
                return [] if server.name() == "docker-proxy" else [server, *server.children(recursive=True)]
    return []


def _first_of(process: psutil.Process, port: int) -> psutil.Process:
    """Return the process that started those that listen at a port: workers share the socket of their master."""
    with contextlib.suppress(psutil.Error):  # a parent of another user's is no master
        while (parent := process.parent()) and any(_listens(c, port) for c in parent.net_connections("tcp")):
            process = parent
    return process


def _listens(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,))


def cpu_seconds(processes: Iterable[psutil.Process]) -> float | None:
    """Return the CPU seconds that processes have taken until now; None where there is none to look at."""
    times = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times.append(process.cpu_times())
    return sum(each.user + each.system for each in times) if times else None


def _of(entry: Mapping[str, Any], *keys: str) -> int:
    value: Any = entry
    for key in keys:
        value = value.get(key) or {}
    return int(value or 0)


def _batches(entries: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    batches: Counter[int] = Counter()
    for entry in entries:
        for batch in entry.get("batch_stats", ()):
            batches[int(batch["batch_size"])] += _of(batch, "compute_infer", "count")
    return batches


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
