"""A tier: the supervised processes that run an entry script, in a folder of their own.

::

    plan.json, keys.json    what is to be run, and who may ask; written here
    state.json, score.log   how it goes; written by the master (foreign/score_master.py)
    cell.json, scripts/     the script, where it was written in a cell
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from tritonnb.engines.options import free_ports
from tritonnb.errors import DeploymentError, EngineError, EntryScriptError, PortInUseError
from tritonnb.foreign.score_master import __file__ as MASTER  # noqa: N812  (a constant, whatever Python calls it)
from tritonnb.score import frames, log
from tritonnb.score.files import newest_change_ns, read_json, write_json
from tritonnb.score.plan import HOST, Plan
from tritonnb.score.told import Failure, Told
from tritonnb.supervise import Job, SupervisedProcess, clean_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A request's last line is in the log a moment after its answer has arrived.
LOGGED_WITHIN_S = 1.0


def new_key() -> str:
    """Return a bearer key that nobody can guess."""
    return secrets.token_urlsafe(32)


class ScoreTier:
    """The processes of one entry script.

    Parameters
    ----------
    folder
        The tier's own folder. It is removed at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = SupervisedProcess.attach(folder)

    # Its life ---------------------------------------------------------------------------------------------------------

    def start(self, plan: Plan, keys: tuple[str, ...], *, keep: bool, restart: bool = False) -> None:
        """Start the master, which starts the workers; `wait` tells what becomes of them.

        Parameters
        ----------
        plan
            What to run.
        keys
            The primary and the secondary key.
        keep
            Whether it outlives this process.
        restart
            Whether a master that dies is started again.

        Raises
        ------
        PortInUseError
            The port is taken.
        """
        try:
            [port] = free_ports((plan.port or None,))
        except PortInUseError as error:
            raise _port_in_use(plan.port) from error
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "state.json").unlink(missing_ok=True)  # of a life before
        write_json(self.folder / "keys.json", keys)
        replace(plan, port=port, generation=1).write(self.folder)
        job = Job(
            command=[sys.executable, "-I", "-S", MASTER, str(self.folder)],
            environment=dict(os.environ),
            log=str(self._log),
            shared_memory_prefix=f"tritonnb_score_{self.folder.name}_",
            owner=None if keep else os.getpid(),
            restart=restart,
        )
        self._process = SupervisedProcess.start(job, self.folder)

    def reload(self, plan: Plan, each: Callable[[], None]) -> None:
        """Have new workers take over, once all of them are ready; until then, and if one fails, those of before serve.

        Parameters
        ----------
        plan
            What to run; its port is not looked at.
        each
            Called again and again meanwhile; where it raises, those of before go on.

        Raises
        ------
        EntryScriptError
            The new workers could not be started; those of before serve.
        """
        told, before, since = Told.read(self.folder), self.plan, (self.folder / "plan.json").stat()
        generation = max(before.generation, told.tried if told else 0) + 1
        try:
            self._hand_over(replace(plan, port=before.port, generation=generation))
            self.wait(each)
        except EntryScriptError as error:
            error.hint = " ".join(filter(None, [error.hint, "The script of before goes on."]))
            before.write(self.folder)
            os.utime(self.folder / "plan.json", ns=(since.st_atime_ns, since.st_mtime_ns))  # for `outdated`
            raise
        except BaseException:
            self._hand_over(replace(before, generation=generation + 1))  # takes the place of what still boots
            raise

    def _hand_over(self, plan: Plan) -> None:
        plan.write(self.folder)
        if self._process and (pid := self._process.pid):
            with suppress(ProcessLookupError):  # it has just ended, which `wait` tells
                os.kill(pid, signal.SIGHUP)

    def wait(self, each: Callable[[], None] = lambda: None) -> None:
        """Wait until the workers of the plan serve, and raise why they do not."""
        generation = self.plan.generation
        while (told := Told.read(self.folder)) is None or told.generation < generation:
            if told and told.tried >= generation and told.error:
                taken = told.error.kind == "port"
                raise _port_in_use(told.port or self.plan.port) if taken else self._failed(told.error)
            if ended := self._ended():
                raise ended
            each()
            time.sleep(0.01)

    def stop(self) -> None:
        """End all processes and remove the folder. May be called again."""
        self._attach()
        if self._process:
            self._process.stop()
        clean_up(self.folder)  # of a start that did not come to a process, or where somebody killed the supervisor

    # What it is -------------------------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether it was started and not stopped, whatever became of its processes."""
        self._attach()
        return all((self.folder / file).exists() for file in ("process.json", "plan.json"))

    def _attach(self) -> None:
        """Learn of processes that somebody else has started meanwhile."""
        self._process = self._process or SupervisedProcess.attach(self.folder)

    @property
    def port(self) -> int:
        """Where it answers, from its start to its end."""
        return self.plan.port

    @property
    def running(self) -> bool:
        """Whether its master runs; of a script that could not be started too."""
        return bool(self._process and self._process.exit_code() is None)

    @property
    def settled(self) -> bool:
        """Whether its first workers serve or could not be started, or it has died."""
        told = Told.read(self.folder)
        tried = told is not None and told.state != "starting"
        return self.started and (tried or not self.running)

    @property
    def outdated(self) -> bool:
        """Whether a Python file in or below the script's folder was changed after its workers were started."""
        return newest_change_ns(self.plan.source_directory) > (self.folder / "plan.json").stat().st_mtime_ns

    @property
    def kept(self) -> bool:
        """Whether it outlives the process that started it."""
        job = read_json(self.folder / "job.json")
        return bool(job and job["owner"] is None)

    @property
    def restart(self) -> bool:
        """Whether a master that dies is started again."""
        job = read_json(self.folder / "job.json")
        return bool(job and job["restart"])

    @restart.setter
    def restart(self, value: bool) -> None:
        if value != self.restart:
            write_json(self.folder / "job.json", {**read_json(self.folder / "job.json"), "restart": value})

    @property
    def plan(self) -> Plan:
        """What it runs."""
        plan = Plan.read(self.folder)
        if plan is None:
            raise EngineError("The entry script's tier runs no more.", hint="deploy it again.")
        return plan

    @property
    def url(self) -> str:
        """Where it answers, without a path."""
        return f"http://{HOST}:{self.port}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The primary and the secondary key."""
        return tuple(read_json(self.folder / "keys.json") or ())

    def regenerate_key(self, number: int) -> None:
        """Replace a key, 0 the primary, 1 the secondary: the old one is refused from the next request on."""
        keys = list(self.keys)
        keys[number] = new_key()
        write_json(self.folder / "keys.json", keys)

    def problem(self) -> str:
        """Return what is wrong with it, in a sentence; empty where all its workers serve."""
        if ended := self._ended():
            return str(ended)
        told = Told.read(self.folder)
        if told is None:
            return "it is starting"
        plan = self.plan
        swapping = told.generation < plan.generation  # to a plan that may have other workers
        ready, count = sum(worker.ready for worker in told.workers), len(told.workers) if swapping else plan.workers
        if ready >= max(count, 1):
            return ""
        why = f": {self._failed(told.error)}" if told.error else ""
        return f"{ready} of its {count} worker{'' if count == 1 else 's'} {'is' if ready == 1 else 'are'} ready{why}"

    def memory_bytes(self) -> int:
        """Return the resident memory of its processes."""
        total = 0
        try:
            master = psutil.Process(self._process.pid if self._process else 0)
            for process in [master, *master.children(recursive=True)]:
                total += process.memory_info().rss
        except psutil.Error:  # one has just ended
            pass
        return total

    # What it said -----------------------------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self.folder / "score.log"

    def logs(self, lines: int | None = None) -> str:
        """Return its log so far, or only its last lines."""
        return log.read(self._log, lines)

    def traceback_of(self, request: str) -> str:
        """Return the traceback of a request that failed in the script; empty where none is logged."""
        deadline = time.monotonic() + LOGGED_WITHIN_S
        while not log.has_ended(lines := log.lines_of(self._log, request)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return log.traceback_in(lines)

    def reason(self, traceback: str) -> str:
        """Return the error of a traceback, with the script's own lines."""
        plan = self.plan
        return frames.reason(traceback, plan.entry_script, plan.shown_as)

    def _ended(self) -> DeploymentError | None:
        """Return why the master runs no more, or None while it does."""
        code = self._process.exit_code() if self._process else -signal.SIGKILL
        if code is None:
            return None
        told = Told.read(self.folder)
        if told and told.error and told.error.kind == "port":
            return DeploymentError(str(_port_in_use(told.port or self.plan.port)))
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return DeploymentError(
            f"The tier of the entry script {how}.", logs=self.logs(10).rstrip(), hint="`reload()` starts it again."
        )

    def _failed(self, failure: Failure) -> EntryScriptError:
        """Say in the script's own words why it could not be started."""
        script = "The entry script"
        what = {
            "import": f"{script} could not be imported",
            "init": f"{script}'s init() failed",
            "timeout": f"{script} did not start in time",
        }.get(failure.kind, f"{script} could not be started")
        told = self.reason(failure.traceback) if failure.traceback else failure.message
        return EntryScriptError(
            f"{what}: {told}",
            traceback=failure.traceback,
            hint="add its package with `--pip` (`environment: {pip: [...]}`), or put the module beside the script."
            if "No module named '" in told
            else "give it longer with `init_timeout_s`."
            if failure.kind == "timeout"
            else "",
            logs=self.logs(10).rstrip() if failure.kind == "worker" else "",  # the only ones who may know why
        )


def _port_in_use(port: int) -> PortInUseError:
    return PortInUseError(
        f"Port {port} of {HOST}, where the entry script is to answer, is taken or not allowed.",
        hint="choose another with `score: {port: ...}` (`--score-port`, `%%triton_score --port`); 0 is a free one.",
    )
