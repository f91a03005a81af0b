"""The handle on a deployment of ours: its life, its models, inference, logs and keys."""

from __future__ import annotations

import dataclasses
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tritonnb import records
from tritonnb.client import Health, Logs, ModelList, ModelState
from tritonnb.errors import DeploymentError, Interrupted, ServerError, SpecError
from tritonnb.handle import current
from tritonnb.handle.logs import FollowedLogs, both_logs
from tritonnb.handle.models import reason
from tritonnb.handle.run import Run
from tritonnb.handle.scoring import Scoring
from tritonnb.handle.script import EntryScript
from tritonnb.registry import in_words_of_a_spec, pinned, served_from
from tritonnb.render.progress import Progress
from tritonnb.repository import in_memory
from tritonnb.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tritonnb.client import Client
    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.report import Report
    from tritonnb.repository import Model

T = TypeVar("T")

#: The fields of a spec that a running server can follow; a change of any other needs a new server.
FOLLOWED = ("models", "repository")
#: A model that was found ready is not looked at again before each request, within so many seconds.
_CHECKED_FOR_S = 0.1


class Deployment(Scoring):
    """A tritonserver that serves a spec, with an entry script in front of it or without, from its start to its end.

    Made by `tritonnb.deploy`; a context manager that deletes the deployment at the end. Thread-safe.

    Parameters
    ----------
    run
        The server.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.spec.name)
        self._run = run
        self._deleted = False
        self._switching = threading.Lock()
        self._found: dict[str, tuple[Run, float, Client]] = {}  # of models that were checked, and when
        current.remember(self)

    @classmethod
    def attach(cls, record: records.Record) -> Deployment:
        """Return a handle on a deployment that runs already, whoever deployed it.

        Raises
        ------
        EngineError
            It does not run any more.
        """
        spec = Spec.from_yaml(record.spec)
        memory = () if spec.models or spec.repository else _in_memory(record.folder)
        script = EntryScript(spec.name, Path(record.tier) if record.tier else None)
        run = Run(spec, record.folder, record.key, memory, script=script)
        run.attach(record)
        return cls(run)

    def wait_for_deployment(self, show_output: bool = False, *, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002  (Azure ML's signature)
        """Wait until the deployment is ready (or degraded: some of its models failed, the others serve).

        Parameters
        ----------
        show_output
            Print the server's log as it grows.
        timeout
            In seconds; without one, as long as it takes.

        Raises
        ------
        TritonNbError
            The server or every model failed; says why.
        DeploymentError
            The time ran out, or the deployment was deleted.
        Interrupted
            Ctrl-C; the deployment goes on starting.
        """
        follow = FollowedLogs(self._run.engine.logs, self._run.script.logs)

        def show() -> None:
            print(follow.more(), end="", flush=True)  # noqa: T201  (it is what was asked for)

        try:
            self.settle(timeout, show if show_output else lambda: None)
        except KeyboardInterrupt:
            raise Interrupted(f"deployment {self.name!r} is still starting; `delete()` stops it.") from None

    def settle(self, timeout: float | None, each: Callable[[], None]) -> None:
        """Wait as `wait_for_deployment` does, and call ``each`` again and again meanwhile."""
        self._run.settle(timeout, each)

    # What it is -----------------------------------------------------------------------------------------------------

    def answers(self) -> bool:
        """Tell whether the server answers, within some seconds, or is just started again after a failure."""
        return self._run.answers()

    @property
    def spec(self) -> Spec:
        """What is served and how."""
        return self._run.spec

    @property
    def state(self) -> str:
        """In a word: starting, ready, degraded (a model failed or lost a process), failed or stopped."""
        return self._run.state

    @property
    def engine(self) -> str:
        """The engine that runs the server: embedded."""
        return self._run.engine.name

    @property
    def endpoint(self) -> Endpoint:
        """All addresses and the key, as client and measurement want them."""
        return self._run.engine.endpoint

    def get_logs(self, num_lines: int = 5000) -> Logs:
        """Return the last lines of the server's log and, below it, of the entry script's.

        Parameters
        ----------
        num_lines
            At most so many of each.
        """
        if self.state == "stopped":
            raise self._run.gone()
        return Logs(both_logs(self._run.engine.logs(), self._run.script.logs(num_lines), num_lines))

    def health(self) -> Health:
        """Return the state of the server and of every model; also of one that does not run."""
        return dataclasses.replace(
            super().health(), restarts=self._run.engine.restarts, script=self._run.script.in_words()
        )

    def _models_of(self, client: Client) -> ModelList:
        problems = {model: reason(model, problem) for model, problem in self._run.known_problems().items()}
        # tritonnb's own reason, where it has one, is shorter than Triton's; and Triton has none where what was loaded
        # before goes on serving.
        states = [
            dataclasses.replace(s, reason=("loading it anew failed: " if s.state == "READY" else "") + problems[s.name])
            if s.name in problems
            else s
            for s in super()._models_of(client)
        ]
        known = {s.name for s in states}
        refused = [ModelState(m, "", "UNAVAILABLE", why) for m, why in problems.items() if m not in known]
        lost = self._run.lost_processes()
        return ModelList(
            dataclasses.replace(s, state="DEGRADED", reason=lost[s.name])
            if s.name in lost and s.state == "READY"
            else s
            for s in sorted(states + refused, key=lambda s: (s.name, s.version))
        )

    # What it does ---------------------------------------------------------------------------------------------------

    def load(self, model: str) -> None:
        """Load a model, or load it anew after its files were changed; the sources are staged again first.

        Raises
        ------
        TritonNbError
            The model could not be loaded; a version that was loaded before goes on serving.
        """
        self._run.load(model)

    def write_model(self, model: str, code: str, *, config: str | None = None) -> None:
        """Write a model of the Python backend and load it at once, as ``%%triton_model`` does.

        The code is kept with the deployment, laid over the sources, which are not changed, and outlives `reload`,
        `update` and a restart of the server. Called again it replaces the code and loads the model anew.

        Parameters
        ----------
        model
            A name of its own, or that of a model of the sources, whose latest version it replaces.
        code
            The ``model.py``.
        config
            The ``config.pbtxt``; where left out, the one written before or that of the sources. A model without one
            names its inputs and outputs in ``auto_complete_config``.

        Raises
        ------
        RepositoryError
            The code is no Python, or the config does not follow Triton's schema; nothing was changed.
        ServerError
            The model could not be loaded; names the code's own line. What was loaded before goes on serving.
        """
        self._run.write_cell(model, code=code, config=config)

    def write_config(self, model: str, text: str) -> bool:
        """Write the ``config.pbtxt`` of a model and load the model anew, as ``%%triton_pbtxt`` does.

        It takes the place of the sources' own, which is not changed, and of the spec's keys, and is kept as the code of
        `write_model` is.

        Parameters
        ----------
        model
            Any model, also one that is made of this config alone: an ensemble.
        text
            The ``config.pbtxt``.

        Returns
        -------
        bool
            Whether the model is loaded; False where it has no files yet, and the config waits for `write_model`.

        Raises
        ------
        ModelConfigError
            The text does not follow Triton's schema; with line and column. Nothing was changed.
        ServerError
            The model could not be loaded. What was loaded before goes on serving.
        """
        return self._run.write_cell(model, config=text)

    def measure(self, model: str, *, instances: Sequence[int] = (), **options: Any) -> Report:
        """Measure how fast a model answers, as `Served.measure` does; the report keeps the deployment's spec."""
        return super().measure(model, instances=instances, **{"spec": self._spec_to_pass_on(), **options})

    def _laying_over(self, model: str) -> AbstractContextManager[Callable[[str], object]]:
        return self._run.laying_over(model)

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model; its requests are refused from then on.

        Parameters
        ----------
        model
            Triton's name of the model.
        dependents
            Of an ensemble: unload the models that it is made of too, but for those that another ensemble needs.
        """
        self._run.unload(model, dependents=dependents)

    def reload(self) -> None:
        """Take over what changed in the sources: new and changed models are loaded, those that are gone unloaded.

        An entry script is started anew: new workers take over once they are ready, and no request is dropped.
        """
        self._run.reload()
        with self._change(f"Reloading the entry script of {self.name!r}") as progress:
            self._run.serve_script(progress.tick, anew=True)

    def follow_sources(self) -> None:
        """Do what `reload` does, but leave an entry script alone whose files have not changed."""
        self._run.reload()
        with records.name_lock(self.name):
            self._run.serve_script(lambda: None, anew=self._run.script.outdated())

    def update(self, *, timeout: float | None = 300, **changes: Any) -> None:
        """Change the spec of the running deployment.

        Other models are loaded and unloaded in the running server. Any other change needs a new server: it is
        started beside the old one, which goes on until the new one is ready and stays if it does not become so;
        only where both want the same fixed port the old one is stopped first, and started again if the new one fails.
        A change of the entry script alone needs no new server. An ``entry_script`` takes the place of a cell's;
        ``score=None`` takes either away.

        Parameters
        ----------
        timeout
            How long to wait for a new server, in seconds.
        **changes
            The spec's fields by name, as for `tritonnb.deploy`.

        Raises
        ------
        SpecError
            The changes cannot be made; nothing was changed.
        TritonNbError
            The new server failed; the old one serves.
        """
        score = changes.get("score", {})
        names_script = score is None or "entry_script" in {**changes, **score}
        of_spec = self._run.script.passing_over_cell() if names_script else nullcontext()
        with self._change(f"Updating {self.name!r}") as progress, of_spec:
            if changes.get("models"):
                changes["models"] = in_words_of_a_spec(changes["models"])
            spec = pinned(self.spec.replace(**changes))
            if spec.name != self.name:
                raise SpecError("A deployment cannot be renamed.", hint=f"deploy it anew as {spec.name!r}.")
            self._run.client()
            self._run.script.prepare(spec, progress.report)
            changed = {f for f in type(spec).model_fields if getattr(spec, f) != getattr(self.spec, f)}
            if changed <= {*FOLLOWED, "score"}:
                self._run.follow_all(spec, self._memory_for(spec), progress.tick)
            else:
                self._replace_run(spec, self._run.key, timeout, progress.tick)

    def restart(self, *, timeout: float | None = 300) -> None:
        """Put a new server in the place of the running one, with the same spec and key, as `update` does.

        Parameters
        ----------
        timeout
            How long to wait for the new server, in seconds.

        Raises
        ------
        TritonNbError
            The new server failed; the old one serves.
        """
        with self._change(f"A new server for {self.name!r}") as progress:
            self._replace_run(self.spec, self._run.key, timeout, progress.tick)

    @contextmanager
    def _change(self, what: str) -> Iterator[Progress]:
        """Keep others from the deployment during a change; gives what is to be told how that goes."""
        try:
            with Progress(what) as progress, records.name_lock(self.name, progress.tick):
                yield progress
        except KeyboardInterrupt:
            raise Interrupted(f"the change of deployment {self.name!r} was given up; it serves as before.") from None

    def _memory_for(self, spec: Spec) -> tuple[Model, ...]:
        """Return the models that are in no file, unless the spec names others in their place."""
        return () if spec.models or spec.repository else self._run.memory

    def _replace_run(self, spec: Spec, key: str, timeout: float | None, each: Callable[[], None]) -> None:
        old = self._run
        taken_over: dict[str, Any] = {"cells": old.cells.read(), "script": old.script}
        new = Run(spec, records.new_folder(self.name), key, self._memory_for(spec), **taken_over)
        new.engine.prepare(lambda _text, _fraction: each())
        had_script = old.script.folder is not None
        in_place = bool(_fixed_ports(spec) & _fixed_ports(old.spec))
        if in_place:
            self._switch(new)
        try:
            if in_place:
                old.stop()
            new.launch()
            new.settle(timeout, each)
            self._switch(new)
        except BaseException:
            new.stop()
            old.script.back_to_cell()
            if not had_script:
                old.script.drop()
            if in_place:
                again = Run(old.spec, records.new_folder(self.name), old.key, old.memory, **taken_over)
                self._switch(again)
                again.launch()
                again.settle(timeout, each)
            else:
                old.serve_script(lambda: None)
            raise
        old.stop()

    def _switch(self, run: Run) -> None:
        with self._switching:
            if self._deleted:  # by another thread, meanwhile
                raise self._run.gone()
            self._run = run

    def _ask(self, model: str, request: Callable[[Client], T]) -> T:
        """As `Served._ask`; where the server or a process of the model has died, the error says so."""
        run = self._run
        try:
            return request(self._client_to_ask(model))
        except (ServerError, DeploymentError) as error:
            self._found.pop(model, None)
            if run is not self._run:  # an update has put a new server in the place of the one that was asked
                return request(self._client_to_ask(model))
            if not isinstance(error, ServerError):
                raise
            if trouble := run.trouble_behind(error):
                raise trouble from error
            if lost := run.lost_processes().get(model):
                raise DeploymentError(f"Model {model!r} failed: {lost}", hint=f"`load({model!r})`.") from error
            error.message = run.cells.located(error.message)
            raise

    def _region_prefix(self) -> str:
        return f"tritonnb_{self._run.folder.name}_"  # as the engines' own: the supervisor removes what begins so

    def _inference_needs_key(self) -> bool:
        return self.spec.auth

    def delete(self) -> None:
        """Stop the server and remove all that was made for it. May be called again."""
        with self._switching:
            self._deleted = True
        self._run.end()
        current.forget(self)

    def _running_client(self) -> Client:
        return self._run.client()

    def _client_for(self, model: str) -> Client:
        return self._run.client_for(model)

    def _client_to_ask(self, model: str) -> Client:
        """As `_client_for`, whose checks cost as much as a small request: in a loop they are made now and then."""
        run, now = self._run, time.monotonic()
        if (found := self._found.get(model)) and found[0] is run and now - found[1] < _CHECKED_FOR_S:
            return found[2]
        client = run.client_for(model)
        self._found[model] = (run, now, client)
        return client

    def __repr__(self) -> str:
        problems = "".join(f"\n  {line.strip()}" for line in self._run.reasons().splitlines())
        names = "".join(f"\n  {model}: registered as {of}" for model, of in served_from(self.spec).items())
        script = f"\n  entry script: {said}" if (said := self._run.script.in_words()) else ""
        return f"<Deployment {self.name!r}: {self.state}, {self.engine} engine>{names}{problems}{script}"


def _fixed_ports(spec: Spec) -> set[int | None]:
    return {spec.server.http_port, spec.server.grpc_port, spec.server.metrics_port} - {None}


def _in_memory(folder: Path) -> tuple[Model, ...]:
    """Return the models that another process had in memory: what it staged of them is all that is left."""
    files = sorted((folder / "models").glob("*/1/model.onnx"))
    return tuple(in_memory(file.read_bytes(), file.parent.parent.name) for file in files)
