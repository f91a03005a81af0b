"""One life of a server: from its start, through its models' loads, to its end."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tritonnb import records
from tritonnb.client import Client
from tritonnb.engines import engine_for
from tritonnb.errors import (
    DeploymentError,
    PortInUseError,
    RepositoryError,
    ServerError,
    ServerUnreachableError,
    TritonNbError,
    nearest,
)
from tritonnb.handle.cells import Cells, check
from tritonnb.repository import Cell, models_of, stage
from tritonnb.supervise import started

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tritonnb.endpoint import Endpoint
    from tritonnb.repository import Model
    from tritonnb.spec import Spec

LOADS_AT_ONCE = 4  # tritonserver's own default for --model-load-thread-count
PORT_TRIES = 3


class Run:
    """A server of one spec, with what is known of its models.

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
    """

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        key: str,
        memory: tuple[Model, ...] = (),
        cells: Mapping[str, Cell] | None = None,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.key = key
        self.memory = memory
        self.cells = Cells(folder)
        self.engine = engine_for(spec, folder, key)
        self.problems: dict[str, TritonNbError] = {}
        self.error: Exception | None = None
        self._cells_before = dict(cells or {})
        self._staged: tuple[str, ...] = ()
        self._client: Client | None = None
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._loading = threading.RLock()  # one change of the models at a time
        self._thread: threading.Thread | None = None

    # Coming up ------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the server and return; its models are loaded in the background."""
        self._start()
        self._in_background(self._load_when_live)

    def attach(self, endpoint: Endpoint) -> None:
        """Take over the server that already runs in the folder, once its models are loaded."""
        self.engine.attach(endpoint)
        self._client = Client(endpoint)
        self._staged = tuple(path.name for path in (self.folder / "models").iterdir())
        self._in_background(self._wait_for_loads)

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
            )
        )
        self._client = Client(endpoint)

    def _stage(self) -> None:
        configs = {name: source.config for name, source in self.spec.models.items() if source.config}
        staged = stage(self.memory or models_of(self.spec), self.folder / "models", configs, self.cells.read())
        self._staged = staged.models
        self.problems.update(staged.problems)

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
        with ThreadPoolExecutor(LOADS_AT_ONCE, thread_name_prefix="tritonnb-load") as pool:
            list(pool.map(self._load, self._staged))
        if failure := self.engine.failure():
            raise failure
        if self.problems and not set(self._staged) - set(self.problems):
            raise DeploymentError(
                f"No model of deployment {self.spec.name!r} could be loaded.\n{self.reasons()}",
                hint="mend the model and deploy it again.",
            )

    def _wait_until_live(self) -> None:
        while not self._connected().live():
            if failure := self.engine.failure():
                raise failure
            if self._stopping.wait(0.01):
                raise self.gone()

    def _wait_for_loads(self) -> None:
        """Wait until every model is ready or has a reason not to be: whoever started the server still loads them."""
        self._wait_until_live()
        while True:
            states = {state.name: state for state in self._connected().repository_index()}
            if all(m in states and (states[m].state == "READY" or states[m].reason) for m in self._staged):
                break
            if self._stopping.wait(0.05):
                raise self.gone()
        for name, state in states.items():
            if state.state == "READY":
                self.engine.watch(name)
            elif state.reason != "unloaded":
                self.problems[name] = ServerError(self.cells.located(state.reason))

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
            if settled:
                break
            if deadline and time.monotonic() > deadline:
                raise DeploymentError(
                    f"Deployment {self.spec.name!r} was not ready after {timeout:g} s.",
                    logs="\n".join(self.engine.logs().splitlines()[-10:]),
                    hint="give it longer with `timeout=` (`--timeout`).",
                )
        if self.error:
            raise self.error

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
        if self.engine.starting_again:
            return "starting"
        return "degraded" if self.problems or self.engine.lost_processes() else "ready"

    def client(self) -> Client:
        """Return the client of a server that has come up, or raise why there is none."""
        if self._stopping.is_set():
            raise self.gone()
        if not self._settled.is_set():
            raise DeploymentError(f"Deployment {self.spec.name!r} is still starting.", hint="`wait_for_deployment()`.")
        if error := self.error or self.engine.failure():
            raise DeploymentError(f"Deployment {self.spec.name!r} has failed: {error}")
        return self._connected()

    def client_for(self, model: str) -> Client:
        """Return the client for a request to ``model``, or raise why it cannot be sent."""
        client = self.client()
        # After a load that failed, what was loaded before may go on serving.
        if (problem := self.problems.get(model)) and not client.model_ready(model):
            raise DeploymentError(
                f"Model {model!r} is not ready: {reason(model, problem)}",
                hint="" if problem.hint else f"mend it and `load({model!r})`.",
            )
        self._check_known(model)
        return client

    def failure_behind(self, error: ServerError) -> TritonNbError | None:
        """Return why the server no longer runs; a connection breaks a moment before its end is known."""
        deadline = time.monotonic() + (0.5 if isinstance(error, ServerUnreachableError) else 0)
        while not (failure := self.engine.failure()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return failure

    def load(self, model: str) -> None:
        """Stage the sources again and load a model, or raise why that failed."""
        client = self.client()
        with self._loading:
            self.problems.pop(model, None)
            self._stage()
            self._check_known(model)
            if model in self.engine.lost_processes():
                client.unload(model)  # Triton passes over a load when no file has changed
            self._load_staged(model)

    def write_cell(self, model: str, *, code: str | None = None, config: str | None = None) -> bool:
        """Keep what a cell holds of a model and load it; tell whether it is loaded: a config may wait for its model.

        Where the load fails and the model served before, the cell from before is kept, for that is what serves.
        """
        check(model, Cell(code, config))
        client = self.client()
        with self._loading:
            before = self.cells.read().get(model, Cell())
            served = client.model_ready(model)
            self.cells.write(
                model,
                Cell(before.code if code is None else code, before.config if config is None else config),
            )
            try:
                self.problems.pop(model, None)
                self._stage()
                if model not in self._staged and model not in self.problems:
                    return False
                self._touch(model)
                self._load_staged(model)
            except TritonNbError as error:
                if served:
                    self.cells.write(model, before)
                    self.problems.pop(model, None)
                    self._stage()
                    error.hint = " ".join(filter(None, [error.hint, "What was loaded before goes on serving."]))
                raise
        return True

    def _touch(self, model: str) -> None:
        """Make Triton load a model's code anew though it may be the same: a cell is run again to run it again."""
        for file in (self.folder / "models" / model).glob("*/model.py"):
            file.touch()

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model, with ``dependents`` also the models that it is made of and no other ensemble needs."""
        with self._loading:
            client = self.client_for(model)
            # Triton itself spares those that were loaded by name, as all are here.
            parts = self._parts(model) if dependents else set()
            if parts:
                others = {state.name for state in client.repository_index() if state.state == "READY"} - {model}
                parts -= {part for other in others for part in self._parts(other)}
            for each in (model, *sorted(parts)):
                self.engine.forget(each)
                client.unload(each)

    def _parts(self, model: str) -> set[str]:
        """Return the models that an ensemble is made of; an empty set for any other model."""
        try:
            config = self._connected().config(model)
        except ServerError:  # it is not ready, so it holds on to nothing
            return set()
        steps = config.get("ensemble_scheduling", {}).get("step", ())
        parts = {step["model_name"] for step in steps}
        return parts.union(*(self._parts(part) for part in parts))

    def reload(self) -> None:
        """Stage the sources again, load every model whose files changed, and unload those that are gone."""
        client = self.client()
        with self._loading:
            before = set(self._staged) | set(self.problems)
            self.problems.clear()
            self._stage()
            for gone in before - set(self._staged) - set(self.problems):
                self.engine.forget(gone)
                client.unload(gone)
            for model in self._staged:
                if model not in self.problems:
                    self._load(model)

    def _load_staged(self, model: str) -> None:
        if model not in self.problems:
            self.engine.forget(model)
            self._load(model)
        if problem := self.problems.get(model):
            raise problem

    def _load(self, model: str) -> None:
        client = self._connected()
        try:
            client.load(model)
        except ServerError as error:
            error.message = self.cells.located(error.message)
            self.problems[model] = error
            if not client.model_ready(model):
                return
        self.engine.watch(model)

    def reasons(self) -> str:
        """Return why models are not ready, a line or more each."""
        return "\n".join(f"  {model}: {reason(model, error)}" for model, error in sorted(self.problems.items()))

    def stop(self) -> None:
        """Stop the server and remove the folder. May be called again."""
        self._stopping.set()
        if self._thread and self._thread is not threading.current_thread():
            self.engine.stop()  # breaks off a load that the thread waits for
            self._thread.join()
        self.engine.stop()
        if self._client:
            self._client.close()

    def gone(self) -> DeploymentError:
        """Return the error of a server that was stopped."""
        return DeploymentError(f"Deployment {self.spec.name!r} was deleted.", hint="deploy it again.")

    def _connected(self) -> Client:
        if not self._client:
            raise RepositoryError(f"Deployment {self.spec.name!r} was not started.")
        return self._client

    def _check_known(self, model: str) -> None:
        if model not in self._staged and model not in self.problems:
            raise DeploymentError(
                f"Deployment {self.spec.name!r} has no model {model!r}.", hint=nearest(model, self._staged)
            )


def reason(model: str, problem: TritonNbError) -> str:
    """Return a problem's message and hint for where the model is named already."""
    return str(problem).removeprefix(f"model {model!r} could not be loaded: ")
