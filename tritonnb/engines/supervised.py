"""What the engines share whose server runs under a supervisor of ours, in the deployment's folder."""

from __future__ import annotations

import re
import shutil
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from tritonnb.client.diagnosis import crash_reason
from tritonnb.endpoint import Endpoint
from tritonnb.errors import EngineError
from tritonnb.supervise import SupervisedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonnb.spec import Spec

#: What a failed start or a lost server is told with.
STOPPED_ELSEWHERE = "It was stopped from elsewhere: another notebook, or `tritonnb stop`."


class SupervisedEngine(ABC):
    """A server under a supervisor.

    Parameters
    ----------
    spec
        What is served and how.
    folder
        The deployment's own folder. The model repository is its ``models``. It is removed at the end.
    key
        The deployment's bearer key.
    why
        Why this engine was chosen; empty where the spec names it.
    """

    name: str

    def __init__(self, spec: Spec, folder: Path, key: str, why: str) -> None:
        self._spec = spec
        self._folder = folder
        self._key = key
        self._process: SupervisedProcess | None = None
        self._log = folder / "server.log"
        self._telling = threading.Lock()
        self._stubs: dict[str, Mapping[Any, str]] = {}  # by model: its processes, with the names of their instances
        self._counts: dict[str, int] = {}  # by model: of how many processes it is made
        self.why = why
        self.endpoint = Endpoint("")

    def attach(self, endpoint: Endpoint) -> None:
        """Take over the server that already runs in this folder.

        Raises
        ------
        EngineError
            It does not run any more.
        """
        self._process = SupervisedProcess.attach(self._folder)
        if not self._process:
            raise EngineError("The server does not run any more.", hint="deploy it again.")
        self.endpoint = endpoint

    @property
    def starting_again(self) -> bool:
        """Whether the server failed and is about to be started again."""
        return bool(self._process and not self._process.pid)

    @property
    def restarts(self) -> int:
        """How often the server was started again after a failure."""
        return self._process.restarts if self._process else 0

    def logs(self) -> str:
        """Return the server's log so far."""
        try:
            return self._log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """Stop the server; its processes, shared memory and folder are gone afterwards."""
        if self._process:
            self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)  # a start that did not come to a process leaves it

    def _begin_log(self, *more: str) -> None:
        """Say in the first line of the log what runs and why, where the spec does not say it itself."""
        said = "; ".join(filter(None, [self.why, *more]))
        if said:
            self._log.write_text(f"tritonnb: {self.name} engine: {said}.\n")

    # The Python backend's processes -----------------------------------------------------------------------------------

    @abstractmethod
    def _running_stubs(self, model: str, *, fresh: bool) -> Mapping[Any, str] | None:
        """Return the running stub processes of a model with their instances' names, the oldest first.

        Not ``fresh``, the watched ones will do where all of them run. None where they cannot be told.
        """

    def watch(self, model: str, instances: int) -> None:
        """Remember the stub processes of ``model``: after one dies Triton still calls the model ready."""
        running = list((self._running_stubs(model, fresh=True) or {}).items())
        # After a load the processes of before live on for some seconds, where Triton has put new ones in their place.
        self._stubs[model] = dict(running[max(0, len(running) - instances) :])
        self._counts[model] = len(self._stubs[model])
        self._tell_loaded()

    def forget(self, model: str) -> None:
        """No longer watch ``model``."""
        self._stubs.pop(model, None)
        self._tell_loaded()

    def _tell_loaded(self) -> None:
        if self._process:
            with self._telling:  # models are loaded by several threads
                self._process.will_load(self._stubs)

    def lost_processes(self) -> dict[str, str]:
        """Return, by model, how many of its stub processes have died since it became ready."""
        lost = {}
        for model, stubs in list(self._stubs.items()):
            running = self._running_stubs(model, fresh=False) if stubs else None
            if running is None:
                continue
            dead = [instance for stub, instance in stubs.items() if stub not in running]
            # Started again, or loaded anew with an ensemble that it is a part of: its instances have other processes.
            lacking = [instance for instance in dead if instance not in running.values()]
            if lacking:
                died = f"died{self._how_died(model)}"
                # Not len(stubs): those of before a load may be among them as long as they take to end.
                count = self._counts.get(model, len(stubs))
                lost[model] = f"{len(lacking)} of its {count} processes {died}; its requests fail. Load it again."
            elif dead and self._stubs.get(model) is stubs:
                self._stubs[model] = running
        return lost

    def _how_died(self, model: str) -> str:
        crash = crash_reason(model, self.logs())
        return f": {crash}" if crash else ""


def last_lines(logs: str, count: int = 12) -> str:
    """Return the last lines of a server's log that say something: without tables, blank lines and notes."""
    lines = [line for line in logs.splitlines() if line.strip() and line[0] not in "|+"]
    telling = [line for line in lines if not re.match(r"I\d{4} ", line)]
    return "\n".join((telling or lines)[-count:])
