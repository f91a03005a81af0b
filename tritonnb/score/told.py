"""What the master of a tier tells of it: ``state.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonnb.score.files import read_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Worker:
    """A worker process.

    Parameters
    ----------
    number
        From 1.
    pid, started
        The process and when it was started, in clock ticks since boot.
    ready
        Whether its ``init()`` has returned.
    """

    number: int
    pid: int
    started: int
    ready: bool


@dataclass(frozen=True)
class Failure:
    """Why workers of a plan did not come up.

    Parameters
    ----------
    generation
        The plan's.
    kind
        ``import``, ``init``, ``timeout``, ``port`` or ``worker``.
    message
        In a line.
    traceback
        Ends at the script's own lines; empty where there is none.
    """

    generation: int
    kind: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Told:
    """How a tier is.

    Parameters
    ----------
    generation, tried
        Of the newest plan that serves (0: none yet) and of the newest that was tried.
    port
        Where it listens.
    state
        ``starting``, ``ready`` or ``failed``.
    workers
        Those that serve.
    replaced
        How many workers were replaced after a death or a timeout.
    error
        Why the newest plan that was tried does not serve.
    """

    generation: int
    tried: int
    port: int
    state: str
    workers: tuple[Worker, ...]
    replaced: int
    error: Failure | None

    @classmethod
    def read(cls, folder: Path) -> Told | None:
        """Return what is told in a tier's folder, or None before its master says anything."""
        told: dict[str, Any] | None = read_json(folder / "state.json")
        if told is None:
            return None
        error = told["error"]
        workers = tuple(Worker(**worker) for worker in told["workers"])
        return cls(**{**told, "workers": workers, "error": error and Failure(**error)})
