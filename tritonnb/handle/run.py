"""One life of a server: from its start, through its models' loads, to its end."""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

from tritonnb import records
from tritonnb.client import Client
from tritonnb.client.diagnosis import still_loading
from tritonnb.engines import engine_for
from tritonnb.errors import DeploymentError, PortInUseError, ServerError, ServerUnreachableError, TritonNbError
from tritonnb.handle.models import Models
from tritonnb.handle.script import Behind, EntryScript
from tritonnb.handle.served import ANSWER_WITHIN_S
from tritonnb.supervise import started

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tritonnb.repository import Cell, Model
    from tritonnb.score import ScriptCell
    from tritonnb.spec import Spec

PORT_TRIES = 3
END_KNOWN_WITHIN_S = 1.5


def new_key() -> str:
    """Return a bearer key that nobody can guess."""
    return secrets.token_urlsafe(32)


class Run(Models):
    """A server of one spec, from its start to its end.

    Parameters
    ----------
    spec
        What is served and how.
    folder
        The run's own folder; removed at its end.
    key
        The bearer key.
    memory
        Models that are in no file.
    cells
        Models written in notebook cells, taken over from the run before.
    script
        The entry script in front of it, taken over from the run before.
    """

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        key: str,
        memory: tuple[Model, ...] = (),
        *,
        cells: Mapping[str, Cell] | None = None,
        script: EntryScript | None = None,
    ) -> None:
        super().__init__(spec, folder, engine_for(spec, folder, key), memory)
        self.key = key
        self.script = script or EntryScript(spec.name)
        self.error: Exception | None = None
        self._cells_before = dict(cells or {})
        self._restarts = 0  # of those that the server has come back from, as far as was noticed here
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # Coming up ------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the server and return; its models are loaded in the background."""
        self._start()
        self._in_background(self._load_when_live)

    def attach(self, record: records.Record) -> None:
        """Take over the server that already runs in the folder, once its models are loaded."""
        self.engine.attach(record.endpoint)
        self._client = Client(record.endpoint)
        self._staged = tuple(sorted(path.name for path in (self.folder / "models").iterdir()))
        self._in_background(lambda: self._take_over(record))

    def _in_background(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  (whatever it is, whoever waits must hear of it)
                self.error = error
            finally:
                self._settled.set()

        self._thread = threading.Thread(target=run, name=f"tritonnb-{self.spec.name}", daemon=True)
        self._thread.start()

    def _start(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for model, cell in self._cells_before.items():
            self.cells.write(model, cell)
        self._stage()
        self.script.expect(self.spec)
        self.engine.start()
        endpoint = self.engine.endpoint
        records.write(
            records.Record(
                name=self.spec.name,
                engine=self.engine.name,
                spec=self.spec.to_yaml(),
                key=self.key,
                url=endpoint.url,
                grpc_url=endpoint.grpc_url,
                metrics_url=endpoint.metrics_url,
                owner=os.getpid(),
                owner_started=started(os.getpid()),
                keep=self.spec.keep,
                created=time.time(),
                folder=self.folder,
                tier=str(self.script.folder or ""),
            )
        )
        self._client = Client(endpoint)

    def _load_when_live(self) -> None:
        for attempt in range(PORT_TRIES):
            try:
                self._wait_until_live()
                break
            except PortInUseError:  # somebody took a free port between its choice and its use
                if attempt + 1 == PORT_TRIES:
                    raise
                self.engine.stop()
                self._start()
        self._load_all()
        if any(isinstance(problem, ServerUnreachableError) for problem in self.problems.values()):
            self._wait_for_end()
        if failure := self.failure():
            raise failure
        if self.engine.restarts or self.engine.starting_again:
            raise DeploymentError("tritonserver failed while it loaded the models.", logs=self._last_logs())
        self._check_any_loaded()
        self.serve_script(self._check_wanted)

    def serve_script(self, each: Callable[[], None], *, cell: ScriptCell | None = None, anew: bool = False) -> None:
        """Have the entry script, where there is one, ask this server: see `EntryScript.serve`."""
        self.script.serve(Behind(self.spec, self.engine.endpoint, self.folder), each, cell=cell, anew=anew)

    def follow_all(self, spec: Spec, memory: tuple[Model, ...], each: Callable[[], None]) -> None:
        """Take over a spec with other models or another entry script in the running server; all of it or nothing."""
        before = self.spec, self.memory
        other_models = (spec.models, spec.repository) != (before[0].models, before[0].repository)
        if other_models:
            self.follow(spec, memory)
        self.spec = spec
        try:
            self.serve_script(each)
        except BaseException:
            self.spec = before[0]
            self.script.back_to_cell()
            if other_models:
                self.follow(*before)
            raise
        records.change(self.folder, spec=spec.to_yaml())

    def _check_wanted(self) -> None:
        if self._stopping.is_set():
            raise self.gone()

    def _wait_until_live(self) -> None:
        # Failures first: whoever else listens at the port of a server that could not be started may never answer.
        while not (failure := self.failure()) and not self._connected().live():
            if self._stopping.wait(0.01):
                raise self.gone()
        if failure:
            raise failure

    def _wait_for_end(self) -> None:
        """Wait until the server's end is known, after a connection broke: that takes a moment, a container's more."""
        deadline = time.monotonic() + END_KNOWN_WITHIN_S
        while not (self.failure() or self.engine.starting_again) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _take_over(self, record: records.Record) -> None:
        """Wait until whoever started the server has loaded its models; load them where that process is gone."""
        self._wait_until_live()
        while (problems := records.problems(self.folder)) is None:
            if not record.has_owner:
                self._load_all()
                self.serve_script(self._check_wanted)
                return
            if failure := self.failure():
                raise failure
            if self._stopping.wait(0.05):
                raise self.gone()
        self.problems.update(problems)
        self._restarts = self.engine.restarts
        self._look()
        while record.tier and record.has_owner and not self.script.settled():
            if failure := self.failure():
                raise failure
            if self._stopping.wait(0.05):
                raise self.gone()
        if record.tier and not self.script.tier:  # whoever was to start it is gone
            self.serve_script(self._check_wanted)

    def settle(self, timeout: float | None, each: Callable[[], None] = lambda: None) -> None:
        """Wait until the server has come up, and raise why it has not.

        Parameters
        ----------
        timeout
            In seconds; without one, as long as it takes.
        each
            Called again and again meanwhile; Ctrl-C is heard between two calls.
        """
        deadline = time.monotonic() + timeout if timeout else None
        while True:
            settled = self._settled.wait(0.05)
            each()
            if settled and (self.error or self._stopping.is_set() or self.failure() or not self._is_coming_back()):
                break
            if deadline and time.monotonic() > deadline:
                slow = ", ".join(map(repr, still_loading(self.engine.logs()))) or self.script.slow()
                raise DeploymentError(
                    f"Deployment {self.spec.name!r} was not ready after {timeout:g} s"
                    + (f": {slow} is still loading." if slow else "."),
                    logs=self._last_logs(),
                    hint="give it longer with `timeout=` (`--timeout`).",
                )
        if error := self.error or self.failure():
            raise error

    # Running --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """In a word: starting, ready, degraded, failed or stopped."""
        if self._stopping.is_set():
            return "stopped"
        if not self._settled.is_set():
            return "starting"
        if self.error or self.engine.failure():
            return "failed"
        if self._is_coming_back():
            return "starting"
        return "degraded" if self.known_problems() or self.lost_processes() or self.script.problem() else "ready"

    def failure(self) -> TritonNbError | None:
        """Return why the server no longer runs and will not be started again, or None."""
        failure = self.engine.failure()
        if failure and (restarts := self.engine.restarts):
            failure.message += f" It was started again {restarts}x before."
        return failure

    def answers(self) -> bool:
        """Tell whether the server answers, or is on its way back."""
        deadline = time.monotonic() + ANSWER_WITHIN_S
        with Client(self.engine.endpoint, timeout=ANSWER_WITHIN_S) as client:
            while not self.failure():
                if self._is_coming_back() or client.live():
                    return True
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)  # it may have been started this very moment
        return False

    def _is_coming_back(self) -> bool:
        """Tell whether a server that has not failed for good failed, is started again and does not answer yet."""
        if self.engine.starting_again:
            return True
        restarts = self.engine.restarts
        if restarts != self._restarts and self._settled.is_set():
            try:
                if not self._connected().live():
                    return True
                self._look()
            except ServerError:  # it failed again just now
                return True
            self._restarts = restarts
        return False

    def _trouble(self) -> DeploymentError | None:
        """Return why the server takes no requests, or None while it does."""
        name = self.spec.name
        if self._stopping.is_set():
            return self.gone()
        if not self._settled.is_set():
            return DeploymentError(f"Deployment {name!r} is still starting.", hint="`wait_for_deployment()`.")
        if error := self.error or self.failure():
            return DeploymentError(f"Deployment {name!r} has failed: {error}")
        if self._is_coming_back():
            return DeploymentError(
                f"The server of deployment {name!r} failed and is being started again.", hint="`wait_for_deployment()`."
            )
        return None

    def client(self) -> Client:
        """Return the client of a server that has come up, or raise why there is none."""
        if trouble := self._trouble():
            raise trouble
        return self._connected()

    def trouble_behind(self, error: ServerError) -> DeploymentError | None:
        """Return why the server takes no requests; a connection breaks a moment before its end is known."""
        if isinstance(error, ServerUnreachableError):
            self._wait_for_end()
        return self._trouble()

    def stop(self) -> None:
        """Stop the server and remove the folder. May be called again."""
        self._stopping.set()
        if self._thread and self._thread is not threading.current_thread():
            self.engine.stop()  # breaks off a load that the thread waits for
            self._thread.join()
        self.engine.stop()
        if self._client:
            self._client.close()

    def end(self) -> None:
        """Stop the server and its entry script's tier. May be called again."""
        self._stopping.set()
        self.script.stop()
        self.stop()

    def _last_logs(self) -> str:
        return "\n".join(self.engine.logs().splitlines()[-10:])

    def gone(self) -> DeploymentError:
        """Return the error of a server that was stopped."""
        return DeploymentError(f"Deployment {self.spec.name!r} was deleted.", hint="deploy it again.")
