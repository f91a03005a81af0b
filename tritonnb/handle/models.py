"""The models of a server: staged, loaded, watched, and why some of them are not ready."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tritonnb import records
from tritonnb.client.diagnosis import load_error
from tritonnb.errors import (
    DeploymentError,
    RepositoryError,
    ServerError,
    ServerUnreachableError,
    TritonNbError,
    nearest,
)
from tritonnb.handle.cells import Cells, check
from tritonnb.registry import located, served_from
from tritonnb.repository import Cell, find_models, models_of, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tritonnb.client import Client
    from tritonnb.engines.base import Engine
    from tritonnb.repository import Model
    from tritonnb.spec import Spec

LOADS_AT_ONCE = 4  # tritonserver's own default for --model-load-thread-count
UNLOADED_WITHIN_S = 30


class Models(ABC):
    """The part of a `Run` that is about its models.

    Parameters
    ----------
    spec
        What is served and how.
    folder
        The run's own folder. The model repository is its ``models``.
    engine
        What runs the server.
    memory
        Models that are in no file.
    """

    def __init__(self, spec: Spec, folder: Path, engine: Engine, memory: tuple[Model, ...]) -> None:
        self.spec = spec
        self.folder = folder
        self.engine = engine
        self.memory = memory
        self.cells = Cells(folder)
        self.problems: dict[str, TritonNbError] = {}
        self._staged: tuple[str, ...] = ()
        self._client: Client | None = None
        self._loading = threading.RLock()  # one change of the models at a time

    @abstractmethod
    def client(self) -> Client:
        """Return the client of a server that has come up, or raise why there is none."""

    def known_problems(self) -> dict[str, TritonNbError]:
        """Return why models are not ready, without what another process has mended meanwhile."""
        if self.problems and self._loading.acquire(blocking=False):  # else a load is about to tell what came of it
            try:
                told = records.problems(self.folder)
                if told is not None:
                    self.problems = {model: error for model, error in self.problems.items() if model in told}
            finally:
                self._loading.release()
        return self.problems

    def reasons(self) -> str:
        """Return why models are not ready, a line or more each."""
        return "\n".join(f"  {model}: {reason(model, error)}" for model, error in sorted(self.problems.items()))

    def lost_processes(self) -> dict[str, str]:
        """Return, by model, what was lost of it since it became ready."""
        lost = self.engine.lost_processes()
        if lost:  # the processes of one that another notebook unloaded ended as they should
            with suppress(ServerError):
                ready = {state.name for state in self._connected().repository_index() if state.state == "READY"}
                lost = {model: what for model, what in lost.items() if model in ready}
        return {model: self.cells.located(what) for model, what in lost.items()}

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

    def load(self, model: str) -> None:
        """Stage the sources again and load a model, or raise why that failed."""
        client = self.client()
        with self._loading:
            self._stage_to_load(model)
            self._check_known(model)
            if model in self.lost_processes():
                client.unload(model)  # Triton passes over a load when no file has changed
            self._load_staged(model)

    def _stage_to_load(self, model: str) -> None:
        sources = self._sources()
        gone = set(self._staged) - {source.name for source in sources} - set(self.cells.read())
        if model in gone:
            raise DeploymentError(
                f"The files of model {model!r} are gone; it serves as it was loaded.",
                hint="put them back, or `reload()` to unload it.",
            )
        self.problems.pop(model, None)
        # Only this model is to change: what was staged of others whose files are gone stays.
        kept = (find_models(self.folder / "models" / name) for name in sorted(gone))
        self._stage(sources + sum(kept, ()))

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
                self.cells.rerun(model)
                self._load_staged(model)
            except TritonNbError as error:
                if served:
                    self.cells.write(model, before)
                    self.problems.pop(model, None)
                    self._stage()
                    self._tell_problems()
                    error.hint = " ".join(filter(None, [error.hint, "What was loaded before goes on serving."]))
                raise
        return True

    @contextmanager
    def laying_over(self, model: str) -> Iterator[Callable[[str], object]]:
        """Give what lays the text of a config over a model and loads it; in the end the model is as it was before."""
        before = self.cells.read().get(model, Cell())
        # In a thread of its own, which no Ctrl-C reaches: a second one must not leave the model half restored.
        with ThreadPoolExecutor(1, thread_name_prefix="tritonnb-restore") as pool:
            try:
                yield lambda text: self.write_cell(model, config=text)
            finally:
                pool.submit(self._restore, model, before).result()

    def _restore(self, model: str, before: Cell) -> None:
        with self._loading:
            self.cells.write(model, before)
            self.problems.pop(model, None)
            self._stage()
            self.cells.rerun(model)
            try:
                self._load_staged(model)
            except ServerError:
                if self._connected().live():  # else, started again, it loads what is staged
                    raise

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model, with ``dependents`` also the models that it is made of and no other ensemble needs."""
        with self._loading:
            client = self.client_for(model)
            # Triton itself spares those that were loaded by name, as all are here.
            parts = self._parts(model) if dependents else set()
            if parts:
                others = {state.name for state in client.repository_index() if state.state == "READY"} - {model}
                parts -= {part for other in others for part in self._parts(other)}
            doomed = {model, *parts}
            for each in sorted(doomed):
                self.engine.forget(each)
                client.unload(each)
            # Triton answers at once, and goes on for seconds with the end of a Python model's processes.
            deadline = time.monotonic() + UNLOADED_WITHIN_S
            while time.monotonic() < deadline and doomed & {
                state.name for state in client.repository_index() if state.state in {"READY", "UNLOADING"}
            }:
                time.sleep(0.02)

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
            sources = self._sources()
            before = set(self._staged)
            lost = self.lost_processes()
            self.problems.clear()
            self._stage(sources)
            for model in lost:
                client.unload(model)  # as in load
            self._load_all()
            self._check_any_loaded()
            for gone in before - set(self._staged) - set(self.problems):
                self.engine.forget(gone)
                client.unload(gone)

    def follow(self, spec: Spec, memory: tuple[Model, ...]) -> None:
        """Serve other models in the running server; where none of them can be loaded, those of before serve on."""
        with self._loading:
            before = self.spec, self.memory, self._staged, dict(self.problems)
            self.spec, self.memory = spec, memory
            try:
                self.reload()
            except BaseException:
                self.spec, self.memory, self._staged, self.problems = before
                with suppress(TritonNbError):  # what cannot be staged again is loaded still
                    self.reload()
                raise
            records.change(self.folder, spec=spec.to_yaml())

    def _sources(self) -> tuple[Model, ...]:
        return self.memory or models_of(located(self.spec))

    def _stage(self, models: tuple[Model, ...] | None = None) -> None:
        models = self._sources() if models is None else models
        configs = {name: source.config for name, source in self.spec.models.items() if source.config}
        staged = stage(models, self.folder / "models", configs, self.cells.read())
        self._staged = staged.models
        self.problems.update(staged.problems)

    def _load_all(self) -> None:
        """Load what was staged, and tell other processes what came of it."""
        with self._loading, ThreadPoolExecutor(LOADS_AT_ONCE, thread_name_prefix="tritonnb-load") as pool:
            list(pool.map(self._load, self._staged))
        self._tell_problems()

    def _load_staged(self, model: str) -> None:
        if model not in self.problems:
            self.engine.forget(model)
            self._load(model)
        self._tell_problems()
        if problem := self.problems.get(model):
            raise problem

    def _load(self, model: str) -> None:
        client = self._connected()
        try:
            client.load(model)
        except ServerUnreachableError as error:  # the server has ended, and its end tells the reason
            self.problems[model] = error
            return
        except ServerError as error:
            self.problems[model] = self._load_error(model, error)
            if not client.model_ready(model):
                return
        self._watch(model)

    def _watch(self, model: str) -> None:
        """Have the engine watch the processes of a model: one for each instance of each version."""
        client = self._connected()
        instances = 0
        with suppress(ServerError):  # it was unloaded this very moment
            groups = client.config(model).get("instance_group", ())
            of_one = sum(group.get("count", 1) * (len(group.get("gpus", ())) or 1) for group in groups)
            instances = of_one * len(client.metadata(model).versions)
        self.engine.watch(model, instances)

    def _load_error(self, model: str, error: ServerError) -> ServerError:
        """Return the error of a load with its true reason: some are only in the log, and cells have their own lines."""
        told = load_error(model, error.message, status=error.status, log=self.engine.logs())
        told.message = self.cells.located(told.message)
        return told

    def _look(self) -> None:
        """Learn from the server what has become of its models: somebody else loaded them."""
        for state in self._connected().repository_index():
            if state.state == "READY":
                self._watch(state.name)
            elif state.reason and state.reason != "unloaded":
                self.problems.setdefault(state.name, self._load_error(state.name, ServerError(state.reason)))

    def _tell_problems(self) -> None:
        with suppress(FileNotFoundError):  # the deployment was just deleted
            records.write_problems(self.folder, self.problems)

    def _check_any_loaded(self) -> None:
        if self.problems and not set(self._staged) - set(self.problems):
            raise DeploymentError(
                f"No model of deployment {self.spec.name!r} could be loaded.\n{self.reasons()}",
                hint="mend the model and deploy it again.",
            )

    def _check_known(self, model: str) -> None:
        # Another handle on this deployment, in another notebook, may have added a model.
        staged = {*self._staged, *(entry.name for entry in (self.folder / "models").iterdir())}
        if model not in staged and model not in self.problems:
            meant = [name for name, of in served_from(self.spec).items() if model in (of, of.partition(":")[0])]
            raise DeploymentError(
                f"Deployment {self.spec.name!r} has no model {model!r}.",
                hint=f"{model!r} is its name in the registry; Triton serves it as {', '.join(map(repr, meant))}."
                if meant
                else nearest(model, staged),
            )

    def _connected(self) -> Client:
        if not self._client:
            raise RepositoryError(f"Deployment {self.spec.name!r} was not started.")
        return self._client


def reason(model: str, problem: TritonNbError) -> str:
    """Return a problem's message and hint for where the model is named already."""
    return str(problem).removeprefix(f"model {model!r} could not be loaded: ")
