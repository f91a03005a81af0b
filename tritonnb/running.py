"""What runs: every living deployment of this user, whoever deployed it, and what this process is connected to."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from tritonnb import records
from tritonnb.client import Client
from tritonnb.engines import engine_for
from tritonnb.errors import DeploymentError, EngineError, ServerError, nearest
from tritonnb.handle import Deployment, deployments
from tritonnb.handle.logs import FollowedLogs
from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table
from tritonnb.score import ScoreTier
from tritonnb.spec import Spec
from tritonnb.supervise import SupervisedProcess, is_running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritonnb.client import ModelState
    from tritonnb.endpoint import Endpoint
    from tritonnb.engines.base import Engine
    from tritonnb.handle import Served

#: How long a server may take to answer before it counts as one that does not, in seconds.
PATIENCE_S = 2.0
THIS_PROCESS = "this process"


@dataclass(frozen=True)
class Running:
    """A deployment that runs, or a connection.

    Parameters
    ----------
    name
        Its name.
    state
        In a word: starting, ready, degraded, failed or stopped.
    engine
        What runs its server; ``connection`` where that is somebody else's.
    url, grpc_url, metrics_url
        Where it answers; empty where unknown.
    models_ready, models
        How many of its models are ready, and how many it has.
    keep
        Whether it outlives the process that deployed it.
    owner
        The process that deployed it, in words; empty where that is not known.
    owner_pid
        Its number; None where it no longer runs.
    age_s
        How long ago it was deployed, in seconds.
    memory_bytes
        Memory of the server and its processes, or of its container, and of an entry script's.
    scoring_uri
        Where its entry script answers; empty without one.
    """

    name: str
    state: str
    engine: str
    url: str = ""
    grpc_url: str = ""
    metrics_url: str = ""
    models_ready: int = 0
    models: int = 0
    keep: bool = False
    owner: str = ""
    owner_pid: int | None = None
    age_s: float | None = None
    memory_bytes: int | None = None
    scoring_uri: str = ""

    def _row(self) -> tuple[str, ...]:
        numbered = self.owner_pid and self.owner != THIS_PROCESS and not stable_output()
        owner = f"{self.owner} {self.owner_pid}" if numbered else self.owner
        whose = ", ".join(filter(None, ["kept" if self.keep else "", owner]))
        models = f"{self.models_ready}/{self.models}" if self.models else "-"
        row = (self.name, self.state, models, self.engine, whose or "-")
        if stable_output():
            return row
        age = "-" if self.age_s is None else age_text(self.age_s)
        memory = "-" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:.0f} MB"
        return (*row, age, self._ports(), memory)

    def _ports(self) -> str:
        ports = (
            urlsplit(self.url).port,
            self.grpc_url.rpartition(":")[2],
            urlsplit(self.metrics_url).port,
            urlsplit(self.scoring_uri).port,
        )
        return " ".join(str(port) for port in ports if port) or "-"


@dataclass(frozen=True, repr=False)
class Status:
    """Deployments at a glance; with ``TRITONNB_STABLE_OUTPUT=1`` without process numbers, ages, ports and memory.

    Parameters
    ----------
    deployments
        The oldest first.
    """

    deployments: tuple[Running, ...]

    def to_json(self) -> str:
        """Return all that is known as a JSON list, with ages in seconds and memory in bytes."""
        return json.dumps([asdict(deployment) for deployment in self.deployments], indent=2)

    def _title(self) -> str:
        count = len(self.deployments)
        return f"{count} deployment{'' if count == 1 else 's'}" if count else "No deployment runs."

    def _columns(self) -> tuple[str, ...]:
        columns = ("Name", "State", "Models", "Engine", "Owner")
        return columns if stable_output() else (*columns, "Age", "Ports (HTTP, gRPC, metrics, /score)", "Memory")

    def _rows(self) -> list[tuple[str, ...]]:
        return [deployment._row() for deployment in self.deployments]  # noqa: SLF001  (of the same module)

    def __repr__(self) -> str:
        return text_table(self._title(), self._rows(), self._columns())

    def _repr_html_(self) -> str:
        return table(self._title(), self._columns(), self._rows())


def status() -> Status:
    """Return the deployments and connections of this process, and those that are kept."""
    handles = deployments()
    names = {handle.name for handle in handles}
    kept = [record for record in records.records() if record.keep and record.name not in names]
    return _status([*kept, *handles])


def running() -> Status:
    """Return every living deployment of this user, whoever deployed it."""
    return _status(records.records())


def record_named(name: str) -> records.Record:
    """Return the record of the living deployment of this name, whoever deployed it.

    Raises
    ------
    DeploymentError
        There is none.
    """
    known = {record.name: record for record in records.records()}
    if name not in known:
        hint = nearest(name, known) or "`tritonnb ps` lists those that run."
        raise DeploymentError(f"No deployment {name!r} runs.", hint=hint)
    return known[name]


def stop(record: records.Record) -> None:
    """Stop a deployment, whoever deployed it, and remove all that was made for it."""
    if tier := _tier(record):
        tier.stop()
    _engine(record).stop()


def log_pieces(record: records.Record, lines: int, *, follow: bool) -> Iterator[str]:
    """Yield the last lines of a deployment's logs and, to follow them, what comes to them until it has ended."""
    engine, tier = _engine(record), _tier(record)
    logs = FollowedLogs(engine.logs, tier.logs if tier else str)
    yield logs.more(lines)
    while follow and record.alive:
        time.sleep(0.2)
        yield logs.more()


def owner_text(pid: int, started: int) -> str:
    """Say what a process is: ``notebook kernel``, or its program; ``this process``; ``ended`` where it is gone."""
    if not is_running(pid, started):
        return "ended"
    if pid == psutil.Process().pid:
        return THIS_PROCESS
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:  # it has just ended
        return "ended"
    if any("ipykernel" in word for word in command):
        return "notebook kernel"
    return _program(command) or "process"


def _program(command: list[str]) -> str:
    """Return what a person would call a process: its script or module, else its program."""
    for word, following in pairwise([*command[1:], ""]):
        if word == "-m":
            return following
        if word == "-c":
            break
        if not word.startswith("-"):
            return Path(word).name
    return Path(command[0]).name if command else ""


def age_text(seconds: float) -> str:
    """Return an age as people say it: ``5 s``, ``12 min``, ``3 h``, ``4 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _engine(record: records.Record) -> Engine:
    engine = engine_for(Spec.from_yaml(record.spec), record.folder, record.key)
    engine.attach(record.endpoint)
    return engine


def _tier(record: records.Record) -> ScoreTier | None:
    tier = ScoreTier(Path(record.tier)) if record.tier else None
    return tier if tier and tier.started else None


def _status(found: Sequence[Served | records.Record]) -> Status:
    if not found:
        return Status(())
    with ThreadPoolExecutor(len(found), thread_name_prefix="tritonnb-status") as pool:  # one that hangs delays no other
        return Status(tuple(pool.map(_look, found)))


def _look(found: Served | records.Record) -> Running:
    if isinstance(found, records.Record):
        return _of_record(found, _of_folder(found))
    if isinstance(found, Deployment):
        record = next((record for record in records.records() if record.name == found.name), None)
        if record:
            return _of_record(record, found.state)
        return Running(found.name, found.state, found.engine, keep=found.spec.keep, owner=THIS_PROCESS)
    state, models = _ask(found.endpoint)
    return Running(
        found.name,
        state,
        "connection",
        found.url,
        found.grpc_url,
        found.metrics_url,
        sum(model.state == "READY" for model in models),
        len(models),
    )


def _of_record(record: records.Record, state: str) -> Running:
    asked, models = _ask(record.endpoint) if state in {"", "ready", "degraded"} else (state, [])
    tier = _tier(record)
    if not state and asked == "ready" and tier and tier.problem():
        asked = "degraded"
    owner = owner_text(record.owner, record.owner_started)
    return Running(
        record.name,
        state or asked,
        record.engine,
        record.url,
        record.grpc_url,
        record.metrics_url,
        sum(model.state == "READY" for model in models),
        len(models),
        record.keep,
        owner,
        record.owner if owner != "ended" else None,
        records.age_s(record),
        _memory(record, tier),
        f"{tier.url}/score" if tier else "",
    )


def _of_folder(record: records.Record) -> str:
    """Return the state that a deployment's folder tells; empty where the server itself is to be asked."""
    process = SupervisedProcess.attach(record.folder)
    if process is None or process.exit_code() is not None:
        return "failed"
    problems = records.problems(record.folder)
    if not process.pid or problems is None:
        return "starting"
    return "degraded" if problems else ""


def _ask(endpoint: Endpoint) -> tuple[str, list[ModelState]]:
    """Ask a server for its state, in a word, and for its models."""
    with Client(endpoint, timeout=PATIENCE_S) as client:
        if not client.live():
            return "failed", []
        try:
            models = client.repository_index()
        except ServerError:  # not every server lists its models, nor to everybody
            return "ready" if client.ready() else "starting", []
    # Without a reason it was never loaded, or is being loaded or unloaded.
    failed = any(model.state != "READY" and model.reason not in ("", "unloaded") for model in models)
    return "degraded" if failed else "ready", models


def _memory(record: records.Record, tier: ScoreTier | None) -> int | None:
    try:
        server = _engine(record).memory_bytes()
    except EngineError:  # it has just ended
        return None
    return server and server + (tier.memory_bytes() if tier else 0)
