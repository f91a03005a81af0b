"""Processes that must not outlive their kernel: started under a supervisor, stopped through it.

The kernel starts ``foreign/supervisor.py``, which starts the server and watches the kernel through a pidfd. Both have
sessions of their own, so that the Interrupt button, which signals the kernel's whole process group, reaches neither.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tritonnb.errors import EngineError
from tritonnb.foreign import supervisor

if TYPE_CHECKING:
    from pathlib import Path


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
    grace_s
        How long the server may take to end by itself after SIGTERM, in seconds, before it is killed.
    """

    command: list[str]
    environment: dict[str, str]
    log: str
    shared_memory_prefix: str
    grace_s: float = 1.0


class SupervisedProcess:
    """A server under its supervisor.

    Parameters
    ----------
    job
        What to run.
    folder
        A folder of this process alone. **It is removed with everything in it** when the process is stopped or its
        kernel dies.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self._folder = folder
        (folder / "process.json").unlink(missing_ok=True)
        # Only this user may read it: the command holds the deployment's key.
        with os.fdopen(os.open(folder / "job.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({**asdict(job), "owner": os.getpid()}, file)
        with (folder / "supervisor.log").open("wb") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._wait_for_pid()

    def _wait_for_pid(self) -> int:
        while (told := self._told()) is None:
            if self._supervisor.poll() is not None:
                said = (self._folder / "supervisor.log").read_text(errors="replace").strip().splitlines()
                raise EngineError(
                    f"The server could not be started: {said[-1] if said else 'its supervisor ended'}.",
                    hint="`tritonnb engine install` builds the engine anew.",
                )
            time.sleep(0.002)
        return int(told["pid"] or 0)

    def _told(self) -> dict[str, int | None] | None:
        try:
            told: dict[str, int | None] = json.loads((self._folder / "process.json").read_text())
        except FileNotFoundError:
            return None
        return told

    def exit_code(self) -> int | None:
        """Return how the server ended (negative: the signal that ended it), or None while it runs."""
        told = self._told()
        if told is None or self._supervisor.poll() is not None:  # the supervisor is gone, and its server with it
            return -signal.SIGKILL
        return told["exit_code"]

    def stop(self) -> None:
        """End the server (SIGTERM, a grace, SIGKILL), free its shared memory and remove its folder.

        May be called again. Takes at most the job's grace and two seconds.
        """
        if self._supervisor.poll() is None:
            self._supervisor.terminate()
            try:
                self._supervisor.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
        if self._folder.exists():  # someone killed the supervisor: its work is done here
            supervisor.clean_up(self._folder)
