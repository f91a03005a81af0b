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
from dataclasses import asdict, dataclass, field
from pathlib import Path  # noqa: TC003  (a field's type)
from typing import TYPE_CHECKING

from tritonnb.home import home_folder
from tritonnb.supervise import SupervisedProcess, clean_up, is_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


YOUNG_S = 60


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

    @property
    def of_this_process(self) -> bool:
        """Whether this very process deployed it."""
        return self.owner == os.getpid()

    @property
    def alive(self) -> bool:
        """Whether its supervisor runs, and it is not about to end with its owner."""
        process = SupervisedProcess.attach(self.folder)
        return process is not None and (self.keep or is_running(self.owner, self.owner_started))


def new_folder(name: str) -> Path:
    """Return the folder of a new deployment, not yet made."""
    return home_folder("deployments") / f"{name}-{secrets.token_hex(4)}"


def write(record: Record) -> None:
    """Write a record into its folder, readable by this user alone: it holds the key."""
    draft = record.folder / "deployment.json.new"
    content = {name: value for name, value in asdict(record).items() if name != "folder"}
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
    draft.replace(record.folder / "deployment.json")


def records() -> list[Record]:
    """Return the records of the deployments that live, the oldest first."""
    found = []
    for folder in home_folder("deployments").iterdir():
        try:
            record = Record(**json.loads((folder / "deployment.json").read_text()), folder=folder)
        except (OSError, ValueError, TypeError):  # it is being made or removed
            continue
        if record.alive:
            found.append(record)
    return sorted(found, key=lambda record: record.created)


def record_of(name: str) -> Record | None:
    """Return the record of the living deployment of this name."""
    return next((record for record in records() if record.name == name), None)


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

    A deployment is dead when its supervisor is. One that is being made has no supervisor yet: it is young, and as a
    rule its name's lock is held; it is not touched.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  (as above)

    swept = []
    for folder in list(home_folder("deployments").iterdir()):
        name = folder.name.rpartition("-")[0]
        if SupervisedProcess.attach(folder) or _is_young(folder):
            continue
        try:
            with FileLock(home_folder("locks") / f"{name}.lock", timeout=0):
                if folder.exists() and not SupervisedProcess.attach(folder):
                    clean_up(folder)
                    swept.append(name)
        except Timeout:
            continue
    return swept


def _is_young(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime < YOUNG_S
    except FileNotFoundError:
        return False


def age_s(record: Record) -> float:
    """Return how long ago a deployment was made, in seconds."""
    return time.time() - record.created
