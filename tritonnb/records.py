"""What is known on disk of each deployment, so that other notebooks and the command line find it.

Every deployment has a folder ``deployments/NAME-xxxxxxxx`` in tritonnb's home. Whoever works on a deployment of a
name holds that name's lock, so that two notebooks that race for it do not both start a server.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path  # noqa: TC003  (a field's type)
from typing import TYPE_CHECKING, Any

from tritonnb.endpoint import Endpoint
from tritonnb.errors import TritonNbError
from tritonnb.home import home_folder
from tritonnb.supervise import SupervisedProcess, clean_up, is_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


YOUNG_S = 60
END_WITHIN_S = 5.0  # a supervisor takes three seconds at most to end a server whose owner is gone


@dataclass(frozen=True)
class Record:
    """A deployment as its folder describes it.

    Parameters
    ----------
    name
        The deployment's name.
    engine
        The engine that runs the server.
    spec
        The spec, in YAML.
    key
        The bearer key.
    url, grpc_url, metrics_url
        Where the server answers.
    owner
        The process that deployed it.
    owner_started
        When that process was started (clock ticks since boot), because process numbers are used again.
    keep
        Whether it outlives its owner.
    created
        When it was deployed, in seconds since the epoch.
    folder
        Its folder.
    tier
        The folder of its entry script's tier; empty without one.
    """

    name: str
    engine: str
    spec: str
    key: str = field(repr=False)
    url: str
    grpc_url: str
    metrics_url: str
    owner: int
    owner_started: int
    keep: bool
    created: float
    folder: Path
    tier: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """All addresses and the key."""
        return Endpoint(self.url, self.grpc_url, self.metrics_url, {"Authorization": f"Bearer {self.key}"})

    @property
    def of_this_process(self) -> bool:
        """Whether this very process deployed it."""
        return self.owner == os.getpid()

    @property
    def has_owner(self) -> bool:
        """Whether the process that deployed it still runs."""
        return is_running(self.owner, self.owner_started)

    @property
    def alive(self) -> bool:
        """Whether its supervisor runs, and it is not about to end with its owner."""
        return self._is_supervised and (self.keep or self.has_owner)

    @property
    def is_ending(self) -> bool:
        """Whether its supervisor is about to end it, because its owner has ended."""
        return self._is_supervised and not (self.keep or self.has_owner)

    @property
    def _is_supervised(self) -> bool:
        return SupervisedProcess.attach(self.folder) is not None


def new_folder(name: str) -> Path:
    """Return the folder of a new deployment, not yet made."""
    return home_folder("deployments") / f"{name}-{secrets.token_hex(4)}"


def new_tier_folder(name: str) -> Path:
    """Return the folder of a new entry script's tier, not yet made."""
    return home_folder("score") / f"{name}-{secrets.token_hex(4)}"


def write(record: Record) -> None:
    """Write a record into its folder, readable by this user alone: it holds the key."""
    content = {name: value for name, value in asdict(record).items() if name != "folder"}
    _write(record.folder / "deployment.json", content)


def change(folder: Path, **changes: Any) -> None:
    """Change fields of a deployment's record."""
    record = _read(folder)
    if record and (changed := replace(record, **changes)) != record:
        write(changed)


def write_problems(folder: Path, problems: Mapping[str, TritonNbError]) -> None:
    """Write why models are not ready, once all were loaded: others cannot ask the server for all of it."""
    _write(folder / "problems.json", {model: [error.message, error.hint] for model, error in problems.items()})


def problems(folder: Path) -> dict[str, TritonNbError] | None:
    """Return why models are not ready, or None while whoever deployed them still loads them."""
    try:
        told = json.loads((folder / "problems.json").read_text())
    except FileNotFoundError:
        return None
    return {model: TritonNbError(message, hint=hint) for model, (message, hint) in told.items()}


def _write(path: Path, content: object) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")  # several threads and processes may write
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    draft.replace(path)


def _read(folder: Path) -> Record | None:
    try:
        return Record(**json.loads((folder / "deployment.json").read_text()), folder=folder)
    except (OSError, ValueError, TypeError):  # it is being made or removed, or is of another release
        return None


def records() -> list[Record]:
    """Return the records of the deployments that live, the oldest first."""
    found = [record for folder in home_folder("deployments").iterdir() if (record := _read(folder)) and record.alive]
    return sorted(found, key=lambda record: record.created)


def record_of(name: str) -> Record | None:
    """Return the record of the living deployment of this name."""
    return next((record for record in records() if record.name == name), None)


def wait_for_ends(name: str, each: Callable[[], None] = lambda: None) -> None:
    """Wait until a deployment of this name that ends with its owner has ended: its ports are free then.

    ``each`` is called again and again meanwhile.
    """
    deadline = time.monotonic() + END_WITHIN_S
    while time.monotonic() < deadline:
        found = filter(None, map(_read, home_folder("deployments").glob(f"{name}-*")))
        if not any(record.name == name and record.is_ending for record in found):
            return
        each()
        time.sleep(0.02)


@contextmanager
def name_lock(name: str, each: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a name; ``each`` is called again and again while another process holds it."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  (lazy: only deploying needs it)

    lock = FileLock(home_folder("locks") / f"{name}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            each()
    try:
        yield
    finally:
        lock.release()


def sweep() -> list[str]:
    """Remove what dead deployments have left, and return their names.

    A deployment is dead when its supervisor is, and the tier of an entry script when no deployment that lives names it.
    One that is being made has no supervisor yet: it is young, and as a rule its name's lock is held; it is not touched.
    One that is kept, but whose record was never written because its maker was killed just then, is dead too: nobody can
    ever find it.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  (as above)

    swept = []
    for kind, is_dead in (("deployments", _is_dead), ("score", _is_lost)):
        for folder in list(home_folder(kind).iterdir()):
            if not is_dead(folder):
                continue
            name = folder.name.rpartition("-")[0]
            try:
                with FileLock(home_folder("locks") / f"{name}.lock", timeout=0):
                    if folder.exists() and is_dead(folder):
                        if process := SupervisedProcess.attach(folder):
                            process.stop()
                        clean_up(folder)
                        swept.append(name)
            except Timeout:
                continue
    return list(dict.fromkeys(swept))


def _is_dead(folder: Path) -> bool:
    if SupervisedProcess.attach(folder):
        return not (folder / "deployment.json").exists() and not _is_young(folder)
    return (folder / "process.json").exists() or not _is_young(folder)


def _is_lost(tier: Path) -> bool:
    """Tell whether the tier of an entry script has no deployment that lives; its own processes may live or not."""
    if any(record.tier == str(tier) for record in records()):
        return False
    ended = (tier / "process.json").exists() and not SupervisedProcess.attach(tier)
    return ended or not _is_young(tier)


def _is_young(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime < YOUNG_S
    except FileNotFoundError:
        return True  # it has just been removed: nothing to do


def age_s(record: Record) -> float:
    """Return how long ago a deployment was made, in seconds."""
    return time.time() - record.created
