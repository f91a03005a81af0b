"""What can be asked of any Triton server, whoever started it: health, models, metadata, inference."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tritonnb.client import Client, Health, ModelList, read_metrics
from tritonnb.client.options import InferOptions
from tritonnb.errors import ServerError, SpecError, nearest
from tritonnb.handle.concurrent import Concurrent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from tritonnb.client import InferResult, Metrics, ModelConfig, ModelMetadata, Statistics
    from tritonnb.client.code import Snippet
    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.report import Report

T = TypeVar("T")

#: A server that takes longer to say that it is live does not answer, in seconds.
ANSWER_WITHIN_S = 5.0


class Served(Concurrent):
    """A handle on a Triton server: a context manager that lets go of it at the end. Thread-safe.

    Parameters
    ----------
    name
        What it is called in this kernel.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    # What a kind of handle must say ----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def state(self) -> str:
        """In a word: starting, ready, degraded, failed or stopped."""

    @property
    @abstractmethod
    def endpoint(self) -> Endpoint:
        """All addresses and the key, as client and measurement want them."""

    @abstractmethod
    def delete(self) -> None:
        """Let go of the server; a deployment of ours is stopped and all that was made for it removed."""

    @abstractmethod
    def _running_client(self) -> Client:
        """Return the client, or raise why there is nothing to talk to."""

    def _client_for(self, model: str) -> Client:
        """Return the client for a request to ``model``, or raise why it cannot be sent."""
        del model
        return self._running_client()

    def _ask(self, model: str, request: Callable[[Client], T]) -> T:
        """Send a request to ``model``. Where the reason of a failure is to be had from elsewhere, that is raised."""
        return request(self._client_for(model))

    # Addresses ------------------------------------------------------------------------------------------------------

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
        """``host:port`` of the gRPC service; empty where unknown."""
        return self.endpoint.grpc_url

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics; empty where unknown."""
        return self.endpoint.metrics_url

    @property
    def headers(self) -> Mapping[str, str]:
        """The header that carries the key."""
        return self.endpoint.headers

    # The server and its models --------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Return the state of the server and of every model; also of one that does not run."""
        state = self.state
        if state in {"failed", "stopped"} or not self.url:
            return Health(state, live=False, ready=False)
        with Client(self.endpoint, timeout=ANSWER_WITHIN_S) as client:
            if not client.live():
                return Health("starting" if state == "starting" else "failed", live=False, ready=False)
            try:
                models = tuple(self._models_of(client))
            except ServerError:  # not every server lists its models, nor to everybody
                models = ()
            return Health(state, live=True, ready=client.ready(), models=models)

    def server_metadata(self) -> dict[str, Any]:
        """Return the server's ``name``, ``version`` and ``extensions``."""
        return self._running_client().server_metadata()

    def models(self) -> ModelList:
        """Return every model with its version, its state and, where it is not ready, the reason."""
        return self._models_of(self._running_client())

    def _models_of(self, client: Client) -> ModelList:
        return ModelList(sorted(client.repository_index(), key=lambda model: (model.name, model.version)))

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Return the names, types and shapes of a model's inputs and outputs.

        Parameters
        ----------
        model
            Triton's name of the model.
        version
            One of its versions; else the server's choice (the latest).
        """
        return self._client_for(model).metadata(model, version)

    def config(self, model: str, version: str = "") -> ModelConfig:
        """Return a model's completed configuration, as Triton's JSON."""
        return self._client_for(model).config(model, version)

    def statistics(self, model: str = "", version: str = "") -> Statistics:
        """Return Triton's inference statistics, of one model or of all: counts, and times in nanoseconds."""
        client = self._client_for(model) if model else self._running_client()
        return client.statistics(model, version)

    def metrics(self) -> Metrics:
        """Return the server's Prometheus metrics as text.

        Raises
        ------
        SpecError
            The address of the metrics is not known.
        """
        if not self.metrics_url:
            raise SpecError(
                f"The address of the metrics of {self.name!r} is not known.", hint="connect(metrics_url=...)."
            )
        self._running_client()
        return read_metrics(self.endpoint)

    def load(self, model: str) -> None:
        """Load a model, or load it anew after its files were changed.

        Raises
        ------
        ServerError
            The model could not be loaded; a version that was loaded before goes on serving.
        """
        self._running_client().load(model)

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model; its requests are refused from then on.

        Parameters
        ----------
        model
            Triton's name of the model.
        dependents
            Of an ensemble: unload the models that it is made of too.
        """
        self._client_for(model).unload(model, dependents=dependents)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        outputs: Sequence[str] | None = None,
        version: str = "",
        request_id: str = "",
        classes: int = 0,
        timeout: float | None = None,
        timing: bool = False,
        **options: Any,
    ) -> InferResult:
        """Send one inference request and return its outputs.

        The inputs are checked against the model's metadata before anything is sent.

        Parameters
        ----------
        model
            Triton's name of the model.
        inputs
            Arrays by input name, with the batch dimension where the model batches; or lists, pandas columns and
            frames, torch tensors. A single number or text, a PIL image and the path of a picture get their batch
            dimension here. A dtype other than the model's is cast where no value changes by it.
        outputs
            The outputs to return; all where left out.
        version
            One of the model's versions; else the server's choice.
        request_id
            Given back in the result.
        classes
            Return the so many best classes of each output instead of its values.
        timeout
            Seconds that the request may take; else the client's 60.
        timing
            Find out where the time went, from the server's statistics before and after: ``result.timing``.
        **options
            What else `tritonnb.client.options.InferOptions` knows: priority, queue_timeout, parameters, sequence_id,
            sequence_start, sequence_end, headers, compression, protocol, binary, decode; of pictures: scaling.

        Returns
        -------
        InferResult
            Arrays by output name.

        Raises
        ------
        InferenceError
            A name, shape or dtype does not fit, there is no such option, or the model failed.
        DeploymentError
            The server is not ready, or is gone.
        """
        said = InferOptions.of(
            options
            | {
                "outputs": outputs,
                "version": version,
                "request_id": request_id,
                "classes": classes,
                "timeout": timeout,
            }
        )
        if timing:
            from tritonnb.client.timing import timed_infer  # noqa: PLC0415  (few ask for it)

            return self._ask(model, lambda client: timed_infer(client, model, inputs, said))
        return self._ask(model, lambda client: client.infer(model, inputs, said))

    def measure(self, model: str, *, instances: Sequence[int] = (), **options: Any) -> Report:
        """Measure how fast a model answers, at every batch size under every load, and where the time goes.

        The load is sent by a process of its own. Ctrl-C ends the sweep; what was measured until then is returned.

        Parameters
        ----------
        model
            Triton's name of the model.
        instances
            Measure it with each of these counts of instances, by loading it with an edited configuration. Afterwards
            it is served as before, whatever happens. Only of deployments of ours.
        **options
            ``batch_sizes=[1, 2, 4]``, ``concurrency=[1, 4]``, ``rates=[100]``, ``budget_s=60`` and all others of
            `tritonnb.measure.sweep.measure`.

        Raises
        ------
        SpecError
            A batch size, a load, an input or a count of instances that cannot be.
        TritonNbError
            The model is not known or not ready, the key is wrong, or the server does not answer.
        """
        from tritonnb.handle.instances import measure_instances  # noqa: PLC0415  (measuring imports numpy)
        from tritonnb.measure.sweep import measure  # noqa: PLC0415

        self._client_for(model)
        if not instances:
            return measure(self.endpoint, model, **options)
        if options.get("budget_s") is not None:  # the whole sweep's
            options["budget_s"] /= len(instances)
        return measure_instances(
            self.config(model), instances, self._laying_over(model), lambda: measure(self.endpoint, model, **options)
        )

    def _laying_over(self, model: str) -> AbstractContextManager[Callable[[str], object]]:
        """Return what lays the text of a config over a model, and takes it away at the end."""
        raise SpecError(
            f"The instances of {model!r} cannot be changed: {self.name!r} is a server that somebody else runs.",
            hint="measure it as it is, without `instances`.",
        )

    def random_inputs(
        self,
        model: str,
        *,
        batch_size: int = 1,
        shapes: Mapping[str, Sequence[int]] | None = None,
        seed: int = 0,
        but: Collection[str] = (),
    ) -> dict[str, NDArray[Any]]:
        """Return inputs that a model takes, made up: see `tritonnb.client.random_inputs.made_up`."""
        from tritonnb.client.random_inputs import made_up  # noqa: PLC0415  (few ask for it)

        return made_up(self.metadata(model), batch_size=batch_size, shapes=shapes, seed=seed, but=but)

    def code(
        self,
        model: str,
        inputs: Mapping[str, object],
        language: str = "curl",
        *,
        names: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Snippet:
        """Return a request as a command or a program that needs no tritonnb; nothing is sent.

        Parameters
        ----------
        model, inputs, **options
            As for `infer`.
        language
            ``"curl"``, for a shell; or ``"python"``, which uses tritonclient.
        names
            By input name, a Python expression for what was given, such as the variable's name; else its values are
            written out, or into a file.

        Returns
        -------
        Snippet
            Its ``text`` never holds the key; ``write(folder)`` writes the files that it reads.
        """
        from tritonnb.client.code import snippet  # noqa: PLC0415  (few ask for it)

        said = InferOptions.of(options)
        endpoint = self.endpoint if self._inference_needs_key() else replace(self.endpoint, headers={})
        return snippet(language, endpoint, self.metadata(model, said.version), inputs, said, names=names)

    def _inference_needs_key(self) -> bool:
        return bool(self.endpoint.headers)

    def client(self, protocol: str = "http") -> Any:
        """Return a client of NVIDIA's ``tritonclient`` for this server, with the key in its place.

        Parameters
        ----------
        protocol
            ``"http"`` (needs ``pip install tritonclient[http]``; to be used in the thread that made it) or ``"grpc"``.
        """
        from tritonnb.client.official import PROTOCOLS, official_client  # noqa: PLC0415  (imports tritonclient)

        if protocol not in PROTOCOLS:
            raise SpecError(f"There is no client for protocol {protocol!r}.", hint=nearest(protocol, PROTOCOLS))
        self._running_client()
        return official_client(self.endpoint, protocol)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.delete()
