"""What the protocol offers beside plain inference: streams of answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from tritonnb.client.options import InferOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonnb.client import Client, InferResult
    from tritonnb.client.streams import Stream

T = TypeVar("T")


class Protocol(ABC):
    """The part of a handle that is about the protocol's extensions."""

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
        stream = self._ask(model, lambda client: client.stream(model, inputs, said))
        return stream.explained_by(lambda step: self._ask(model, lambda _: step()))
