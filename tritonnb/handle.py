"""The handle on a deployment: its state, its models, inference, logs, keys and its end."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tritonnb.client import Client, Health, InferResult, ModelMetadata, ModelState
from tritonnb.errors import (
    DeploymentError,
    Interrupted,
    PortInUseError,
    ServerError,
    ServerUnreachableError,
    TritonNbError,
    nearest,
)
from tritonnb.repository import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tritonnb.endpoint import Endpoint
    from tritonnb.engines import Engine
    from tritonnb.repository import Model
    from tritonnb.spec import Spec

LOADS_AT_ONCE = 4  # tritonserver's own default for --model-load-thread-count

_deployments: dict[str, Deployment] = {}
_registry = threading.Lock()


class Deployment:
    """A tritonserver that serves a spec, from its start to its end.

    Made by `tritonnb.deploy`; a context manager that deletes the deployment at the end. Thread-safe.

    Parameters
    ----------
    spec
        What is served and how.
    models
        The models found at the spec's sources.
    engine
        The engine that runs the server.
    folder
        The deployment's own folder; the engine removes it at the end.
    key
        The bearer key.
    """

    def __init__(self, spec: Spec, models: tuple[Model, ...], engine: Engine, folder: Path, key: str) -> None:
        self.spec = spec
        self.name = spec.name
        self._models = models
        self._engine = engine
        self._folder = folder
        self._key = key
        self._problems: dict[str, TritonNbError] = {}
        self._error: Exception | None = None
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._client: Client | None = None
        with _registry:
            _deployments.pop(self.name, None)  # the latest stands last
            _deployments[self.name] = self
        self._thread = threading.Thread(target=self._bring_up, name=f"tritonnb-{self.name}", daemon=True)
        self._thread.start()

    # Coming up ------------------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        try:
            self._start()
            self._load_all()
        except Exception as error:  # noqa: BLE001  (whatever it is, whoever waits must hear of it)
            self._error = error
        finally:
            self._settled.set()

    def _start(self) -> None:
        """Start the server; again on other ports when somebody took a free one between its choice and its use."""
        tries = 3
        while True:
            with self._starting:
                if self._stopping.is_set():
                    raise DeploymentError(f"Deployment {self.name!r} was deleted while it started.")
                self._stage()
                self._engine.start()
                self._client = Client(self._engine.endpoint)
            try:
                self._wait_until_live(self._client)
            except PortInUseError:
                tries -= 1
                server = self.spec.server
                if not tries or (server.http_port and server.grpc_port and server.metrics_port):
                    raise
                self._engine.stop()
            else:
                return

    def _stage(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        configs = {name: source.config for name, source in self.spec.models.items() if source.config}
        staged = stage(self._models, self._folder / "models", configs)
        self._staged = staged.models
        self._problems.update(staged.problems)

    def _wait_until_live(self, client: Client) -> None:
        while not client.live():
            if failure := self._engine.failure():
                raise failure
            if self._stopping.wait(0.01):
                raise DeploymentError(f"Deployment {self.name!r} was deleted while it started.")

    def _load_all(self) -> None:
        with ThreadPoolExecutor(LOADS_AT_ONCE, thread_name_prefix="tritonnb-load") as pool:
            list(pool.map(self._load, self._staged))
        if failure := self._engine.failure():
            raise failure
        if len(self._problems) == len(self._models):
            raise DeploymentError(
                f"No model of deployment {self.name!r} could be loaded.\n{self._reasons()}",
                hint="mend the model and deploy it again.",
            )

    def _load(self, model: str) -> None:
        try:
            self._live_client().load(model)
        except ServerError as error:
            self._problems[model] = error
        else:
            self._problems.pop(model, None)
            self._engine.watch(model)

    def _reasons(self) -> str:
        return "\n".join(f"  {model}: {_reason(model, error)}" for model, error in sorted(self._problems.items()))

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
        shown = 0

        def follow_logs() -> None:
            nonlocal shown
            logs = self._engine.logs()
            print(logs[shown:], end="", flush=True)  # noqa: T201  (it is what was asked for)
            shown = len(logs)

        try:
            self.settle(timeout, follow_logs if show_output else lambda: None)
        except KeyboardInterrupt:
            raise Interrupted(f"deployment {self.name!r} is still starting; `delete()` stops it.") from None

    def settle(self, timeout: float | None, each: Callable[[], None]) -> None:
        """Wait as `wait_for_deployment` does, in slices in which Ctrl-C is heard; call ``each`` after every one."""
        deadline = time.monotonic() + timeout if timeout else None
        while True:
            settled = self._settled.wait(0.05)
            each()
            if settled:
                break
            if deadline and time.monotonic() > deadline:
                raise DeploymentError(
                    f"Deployment {self.name!r} was not ready after {timeout:g} s.",
                    logs=self.get_logs(10),
                    hint="give it longer with `timeout=` (`--timeout`).",
                )
        if self._error:
            raise self._error

    # What it is -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """In a word: starting, ready, degraded (a model failed or lost a process), failed or stopped."""
        if self._stopping.is_set():
            return "stopped"
        if not self._settled.is_set():
            return "starting"
        if self._error or self._engine.failure():
            return "failed"
        return "degraded" if self._problems or self._engine.lost_processes() else "ready"

    @property
    def engine(self) -> str:
        """The engine that runs the server: embedded."""
        return self._engine.name

    @property
    def endpoint(self) -> Endpoint:
        """All addresses and the key, as client and measurement want them."""
        return self._engine.endpoint

    @property
    def url(self) -> str:
        """The HTTP address, without a trailing slash."""
        return self.endpoint.url

    @property
    def scoring_uri(self) -> str:
        """Where a caller sends: without an entry script, the server itself."""
        return self.url

    @property
    def grpc_url(self) -> str:
        """``host:port`` of the gRPC service."""
        return self.endpoint.grpc_url

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics."""
        return self.endpoint.metrics_url

    @property
    def headers(self) -> Mapping[str, str]:
        """The header that carries the key."""
        return self.endpoint.headers

    def get_keys(self) -> tuple[str, ...]:
        """Return the bearer keys; straight to Triton there is one."""
        return (self._key,)

    def get_logs(self, num_lines: int = 5000) -> str:
        """Return the last lines of the server's log.

        Parameters
        ----------
        num_lines
            At most so many.
        """
        if self._stopping.is_set():
            raise self._gone()
        return "\n".join(self._engine.logs().splitlines()[-num_lines:])

    def health(self) -> Health:
        """Return the state of the server and of every model; also of one that does not run."""
        state = self.state
        running = state in {"ready", "degraded"} and self._client
        return Health(
            state=state,
            live=bool(running and running.live()),
            ready=bool(running and running.ready()),
            models=tuple(self.models()) if running else (),
        )

    def models(self) -> list[ModelState]:
        """Return every model with its version, its state and, where it is not ready, the reason."""
        states = [
            # tritonnb's own reason, where it has one, is shorter than Triton's.
            dataclasses.replace(s, reason=_reason(s.name, self._problems[s.name])) if s.name in self._problems else s
            for s in self._live_client().repository_index()
        ]
        known = {s.name for s in states}
        refused = [ModelState(m, "", "UNAVAILABLE", _reason(m, e)) for m, e in self._problems.items() if m not in known]
        lost = self._engine.lost_processes()
        return [
            dataclasses.replace(s, state="DEGRADED", reason=lost[s.name])
            if s.name in lost and s.state == "READY"
            else s
            for s in sorted(states + refused, key=lambda s: (s.name, s.version))
        ]

    # What it does ---------------------------------------------------------------------------------------------------

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Return the names, types and shapes of a model's inputs and outputs.

        Parameters
        ----------
        model
            Triton's name of the model.
        version
            One of its versions; else the server's choice (the latest).
        """
        return self._of_model(model).metadata(model, version)

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return a model's completed configuration, as Triton's JSON."""
        return self._of_model(model).config(model, version)

    def statistics(self, model: str = "", version: str = "") -> list[dict[str, Any]]:
        """Return Triton's inference statistics, of one model or of all: counts, and times in nanoseconds."""
        return (self._of_model(model) if model else self._live_client()).statistics(model, version)

    def load(self, model: str) -> None:
        """Load a model, or load it anew after its files were changed; the sources are staged again first.

        Raises
        ------
        ServerError
            The model could not be loaded; a version that was loaded before goes on serving.
        """
        client = self._live_client()
        self._problems.pop(model, None)
        self._stage()
        self._check_known(model)
        if model in self._engine.lost_processes():
            client.unload(model)  # Triton passes over a load when no file has changed
        self._engine.forget(model)
        if model not in self._problems:
            self._load(model)
        if problem := self._problems.get(model):
            raise problem

    def unload(self, model: str) -> None:
        """Unload a model; its requests are refused from then on."""
        self._engine.forget(model)
        self._of_model(model).unload(model)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        outputs: Iterable[str] | None = None,
        version: str = "",
        request_id: str = "",
    ) -> InferResult:
        """Send one inference request and return its outputs.

        The inputs are checked against the model's metadata before anything is sent.

        Parameters
        ----------
        model
            Triton's name of the model.
        inputs
            Arrays by input name, with the batch dimension where the model batches. Lists and numbers will do.
            A dtype other than the model's is cast where no value changes by it.
        outputs
            The outputs to return; all where left out.
        version
            One of the model's versions; else the server's choice.
        request_id
            Given back in the result.

        Returns
        -------
        InferResult
            Arrays by output name.

        Raises
        ------
        InferenceError
            A name, shape or dtype does not fit, or the model failed.
        DeploymentError
            The deployment is not ready, or is gone.
        """
        client = self._of_model(model)
        try:
            return client.infer(model, inputs, outputs=outputs, version=version, request_id=request_id)
        except ServerError as error:
            if failure := self._failure_behind(error):
                raise failure from error
            if lost := self._engine.lost_processes().get(model):
                raise DeploymentError(f"Model {model!r} failed: {lost}", hint=f"`load({model!r})`.") from error
            raise

    def _failure_behind(self, error: ServerError) -> TritonNbError | None:
        """Return why the server no longer runs; a connection breaks a moment before its end is known."""
        deadline = time.monotonic() + (0.5 if isinstance(error, ServerUnreachableError) else 0)
        while not (failure := self._engine.failure()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return failure

    def _live_client(self) -> Client:
        if self._stopping.is_set():
            raise self._gone()
        if self._settled.is_set() and (error := self._error or self._engine.failure()):
            raise DeploymentError(f"Deployment {self.name!r} has failed: {error}")
        if not self._client:
            raise DeploymentError(f"Deployment {self.name!r} is still starting.", hint="`wait_for_deployment()`.")
        return self._client

    def _of_model(self, model: str) -> Client:
        """Return the client for a request to ``model``, or say why it cannot be sent."""
        client = self._live_client()
        if not self._settled.is_set():
            raise DeploymentError(f"Deployment {self.name!r} is still starting.", hint="`wait_for_deployment()`.")
        if problem := self._problems.get(model):
            raise DeploymentError(
                f"Model {model!r} is not ready: {_reason(model, problem)}",
                hint=problem.hint or f"mend it and `load({model!r})`.",
            )
        self._check_known(model)
        return client

    def _check_known(self, model: str) -> None:
        if model not in self._staged and model not in self._problems:
            raise DeploymentError(
                f"Deployment {self.name!r} has no model {model!r}.", hint=nearest(model, self._staged)
            )

    def _gone(self) -> DeploymentError:
        return DeploymentError(f"Deployment {self.name!r} was deleted.", hint="deploy it again.")

    def delete(self) -> None:
        """Stop the server and remove all that was made for it. May be called again."""
        self._stopping.set()
        with self._starting:
            self._engine.stop()
        if self._client:
            self._client.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with _registry:
            if _deployments.get(self.name) is self:
                del _deployments[self.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.delete()

    def __repr__(self) -> str:
        problems = "".join(f"\n  {line.strip()}" for line in self._reasons().splitlines())
        return f"<Deployment {self.name!r}: {self.state}, {self.engine} engine>{problems}"


def _reason(model: str, problem: TritonNbError) -> str:
    """Return a problem's message and hint for where the model is named already."""
    return str(problem).removeprefix(f"model {model!r} could not be loaded: ")


def deployments() -> list[Deployment]:
    """Return this kernel's deployments, the latest last."""
    with _registry:
        return list(_deployments.values())


def deployment(name: str | None = None) -> Deployment:
    """Return a deployment of this kernel by name, or the latest one.

    Raises
    ------
    DeploymentError
        There is none, or none of this name; lists those there are.
    """
    running = {d.name: d for d in deployments()}
    if name is None and running:
        return list(running.values())[-1]
    if name in running:
        return running[name]
    what = "No deployment runs in this kernel." if not running else f"No deployment {name!r} runs in this kernel."
    raise DeploymentError(what, hint=nearest(name or "", running) or "deploy a model: `%triton_deploy PATH`.")
