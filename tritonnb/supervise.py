"""Processes that must not outlive their kernel: started under a supervisor, stopped through it.

The kernel starts ``foreign/supervisor.py``, which starts the server and watches the kernel through a pidfd. Both have
sessions of their own, so that the Interrupt button, which signals the kernel's whole process group, reaches neither.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tritonnb.errors import EngineError
from tritonnb.foreign.supervisor import __file__ as SUPERVISOR  # noqa: N812  (a constant, whatever Python calls it)
from tritonnb.foreign.supervisor import clean_up, started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_supervisors: set[subprocess.Popen[bytes]] = set()

STOP_WITHIN_S = 10.0

__all__ = ["Job", "SupervisedProcess", "clean_up", "interrupt_held", "is_running", "started"]


@atexit.register
def _take_exit_statuses() -> None:
    _supervisors.difference_update([other for other in list(_supervisors) if other.poll() is not None])


@dataclass(frozen=True)
class Job:
    """What a supervisor is to run.

    Parameters
    ----------
    command
        The server's program and arguments.
    environment
        The whole environment of the server.
    log
        The file that takes the server's output.
    shared_memory_prefix
        How the names of the server's regions in ``/dev/shm`` begin; they are unlinked when it has ended.
    owner
        The process that the server must not outlive; None where it may.
    restart
        Start the server again when it fails.
    back_off_s
        How long to wait before each such start, in seconds; after the last of them it has failed for good.
    grace_s
        How long the server may take to end by itself after SIGTERM, in seconds, before it is killed.
    clean_up
        A program that removes what of the server is in no process of its own, such as its container; run at the end.
    """

    command: list[str]
    environment: dict[str, str]
    log: str
    shared_memory_prefix: str
    owner: int | None
    restart: bool = False
    back_off_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    grace_s: float = 1.0
    clean_up: tuple[str, ...] = ()


@contextmanager
def interrupt_held() -> Iterator[list[int]]:
    """Hold Ctrl-C back for the length of the block, which is told by the signals in the list."""
    pressed: list[int] = []
    # Python gives Ctrl-C to the main thread alone. A handler that is None was set by a program that embeds Python.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield pressed
        return
    usual = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)


def is_running(pid: int, started_at: int) -> bool:
    """Tell whether the process that had this number when it was started at this time still runs."""
    return started(pid) == started_at != 0


@dataclass(frozen=True)
class _Told:
    """What ``process.json`` holds."""

    pid: int
    started: int
    exit_code: int | None
    restarts: int
    supervisor: int
    supervisor_started: int

    @classmethod
    def read(cls, folder: Path) -> _Told | None:
        try:
            return cls(**json.loads((folder / "process.json").read_text()))
        except (FileNotFoundError, TypeError):  # not yet there, or of another release
            return None


class SupervisedProcess:
    """A server under its supervisor. Made by `start` or `attach`.

    Parameters
    ----------
    folder
        A folder of this process alone. **It is removed with everything in it** when the process is stopped or its
        owner dies.
    told
        What the supervisor told last.
    supervisor
        The supervisor, where this process started it.
    """

    def __init__(self, folder: Path, told: _Told, supervisor: subprocess.Popen[bytes] | None = None) -> None:
        self._folder = folder
        self._first = told
        self._latest: tuple[tuple[int, int], _Told] | None = None
        self._supervisor = supervisor

    @classmethod
    def start(cls, job: Job, folder: Path) -> SupervisedProcess:
        """Start a supervisor, and through it the server.

        Raises
        ------
        EngineError
            The server's program could not be started.
        """
        with interrupt_held() as pressed:  # else it could come between a process and the knowledge of it
            try:
                process = cls._start(job, folder)
            except EngineError:
                if not pressed:
                    raise
                # Interrupt signals the kernel's group, in which the supervisor is for its first moment.
                raise KeyboardInterrupt from None
        if pressed:
            process.stop()
            raise KeyboardInterrupt
        return process

    @classmethod
    def _start(cls, job: Job, folder: Path) -> SupervisedProcess:
        (folder / "process.json").unlink(missing_ok=True)
        # Only this user may read it: the command holds the deployment's key.
        with os.fdopen(os.open(folder / "job.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(job), file)
        with (folder / "supervisor.log").open("wb") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", SUPERVISOR, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Kept here until it has ended: its handle may be dropped before, and Popen complains of that.
        _take_exit_statuses()
        _supervisors.add(supervisor)
        while (told := _Told.read(folder)) is None:
            if supervisor.poll() is not None:
                said = (folder / "supervisor.log").read_text(errors="replace").strip().splitlines()
                raise EngineError(
                    f"The server could not be started: {said[-1] if said else 'its supervisor ended'}.",
                    hint="`tritonnb engine install` builds the engine anew.",
                )
            time.sleep(0.002)
        return cls(folder, told, supervisor)

    @classmethod
    def attach(cls, folder: Path) -> SupervisedProcess | None:
        """Return the process of this folder, whoever started it, or None where its supervisor no longer runs."""
        told = _Told.read(folder)
        if told is None or not is_running(told.supervisor, told.supervisor_started):
            return None
        return cls(folder, told)

    @property
    def pid(self) -> int:
        """The server's process number; 0 after its end."""
        told = self._told()
        return told.pid if told else 0

    @property
    def restarts(self) -> int:
        """How often the server was started again after a failure."""
        told = self._told()
        return told.restarts if told else 0

    def exit_code(self) -> int | None:
        """Return how the server ended for good (negative: the signal that ended it), or None while it runs."""
        if not self._is_supervised():  # its supervisor is gone, and it with it
            return -signal.SIGKILL
        told = self._told()
        return told.exit_code if told else None  # None: its supervisor is just removing the folder

    def will_load(self, models: Iterable[str]) -> None:
        """Say which models a restarted server is to load."""
        draft = self._folder / "loaded.json.new"
        draft.write_text(json.dumps(sorted(models)))
        draft.replace(self._folder / "loaded.json")

    def stop(self) -> None:
        """End the server (SIGTERM, a grace, SIGKILL), free its shared memory and remove its folder.

        May be called again. Takes at most the job's grace and two seconds.
        """
        if self._is_supervised():
            os.kill(self._first.supervisor, signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN_S
        while self._is_supervised():
            if time.monotonic() > deadline:
                os.kill(self._first.supervisor, signal.SIGKILL)
                deadline += STOP_WITHIN_S
            time.sleep(0.005)
        if self._folder.exists():  # somebody killed the supervisor: its work is done here
            clean_up(self._folder)

    def _told(self) -> _Told | None:
        """Return what the supervisor told last; asked before every request, so a file that is known is not read."""
        try:
            status = (self._folder / "process.json").stat()
        except FileNotFoundError:
            return None
        known = (status.st_ino, status.st_mtime_ns)
        if not self._latest or self._latest[0] != known:
            told = _Told.read(self._folder)
            if told is None:
                return None
            self._latest = (known, told)
        return self._latest[1]

    def _is_supervised(self) -> bool:
        if self._supervisor:
            self._supervisor.poll()  # takes its exit status; says nothing of use in a child that the kernel forked
        return is_running(self._first.supervisor, self._first.supervisor_started)
