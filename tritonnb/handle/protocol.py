"""What the protocol offers beside plain inference: streams, generation, shared memory, the server's own settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from tritonnb.client.options import InferOptions
from tritonnb.errors import DeploymentError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonnb.client import Client, InferResult
    from tritonnb.client.shared_memory import SharedMemory
    from tritonnb.client.streams import Stream

T = TypeVar("T")


class Protocol(ABC):
    """The part of a handle that is about the protocol's extensions."""

    @abstractmethod
    def _running_client(self) -> Client:
        """Return the client, or raise why there is nothing to talk to."""

    @abstractmethod
    def _ask(self, model: str, request: Callable[[Client], T]) -> T:
        """Send a request to ``model``. Where the reason of a failure is to be had from elsewhere, that is raised."""

    def stream(self, model: str, inputs: Mapping[str, object], **options: Any) -> Stream[InferResult]:
        """Send one inference request and return its answers as they come, over gRPC.

        A decoupled model gives any number of answers; of any other model there is one.

        Parameters
        ----------
        model, inputs
            As for `infer`.
        **options
            As for `infer`. ``timeout`` is how long each answer may take to come, in seconds; else 60.

        Returns
        -------
        Stream of InferResult
            An iterator. Left before its end, by ``break``, Ctrl-C or `close()`, it ends the request on the server too.

        Raises
        ------
        InferenceError
            The request does not fit the model. What goes wrong later is raised by the iterator, after the answers that
            came before it.
        """
        said = InferOptions.of({"protocol": "grpc", **options})
        return self._streamed(model, lambda client: client.stream(model, inputs, said))

    def generate(self, model: str, inputs: Mapping[str, object], **options: Any) -> dict[str, Any]:
        """Ask a model in plain JSON and return its one answer, by Triton's generate extension.

        Parameters
        ----------
        model
            Triton's name of the model.
        inputs
            Numbers, texts or lists of them by input name; numpy arrays will do.
        **options
            ``parameters`` (what is no input, such as an LLM's temperature), ``version``, ``request_id``, ``timeout``,
            ``headers``.

        Returns
        -------
        dict
            Values by output name, and ``model_name``, ``model_version``, ``id``.

        Raises
        ------
        InferenceError
            The request does not fit the model, or the model failed.
        """
        said = InferOptions.of(options)
        return self._ask(model, lambda client: client.generate(model, inputs, said))

    def generate_stream(self, model: str, inputs: Mapping[str, object], **options: Any) -> Stream[dict[str, Any]]:
        """Ask a model as `generate` does, and return its answers as they come.

        Parameters
        ----------
        model, inputs, **options
            As for `generate`. ``timeout`` is how long each answer may take to come, in seconds; else 60.

        Returns
        -------
        Stream of dict
            An iterator, to be used as that of `stream`.
        """
        said = InferOptions.of(options)
        return self._streamed(model, lambda client: client.generate_stream(model, inputs, said))

    def shared_memory(self) -> SharedMemory:
        """Return room in this machine's shared memory for the tensors of requests; for the server on this machine.

        ::

            with deployment.shared_memory() as memory:
                result = deployment.infer("model", {"x": x}, shared_memory=memory)

        The room is made at the first request and used again by those that follow, so it pays for many requests with
        large tensors. It is removed at the end of the block; by the supervisor, if the kernel is killed.
        """
        from tritonnb.client.shared_memory import SharedMemory  # noqa: PLC0415  (few ask for it)

        self._running_client()
        return SharedMemory(self._region_prefix)

    def trace_settings(self, model: str = "") -> dict[str, Any]:
        """Return how requests are traced: the server's settings, or one model's."""
        return self._running_client().trace_settings(model)

    def update_trace_settings(self, model: str = "", **settings: object) -> dict[str, Any]:
        """Change how requests are traced: see `tritonnb.client.administration.Administration`."""
        return self._running_client().update_trace_settings(model, **settings)

    def log_settings(self) -> dict[str, Any]:
        """Return what the server writes into its log."""
        return self._running_client().log_settings()

    def update_log_settings(self, **settings: object) -> dict[str, Any]:
        """Change what the server writes into its log: see `tritonnb.client.administration.Administration`."""
        return self._running_client().update_log_settings(**settings)

    def _region_prefix(self) -> str:
        """Return how the names of shared-memory regions begin."""
        return "tritonnb_"

    def _streamed(self, model: str, begin: Callable[[Client], Stream[T]]) -> Stream[T]:
        def explained(step: Callable[[], T]) -> T:
            try:
                return step()
            except (ServerError, DeploymentError) as error:
                raised = error

            def fail(_: Client) -> T:
                raise raised

            return self._ask(model, fail)

        return self._ask(model, begin).explained_by(explained)
