"""Requests side by side: many in one call, or awaited in an event loop."""

from __future__ import annotations

import functools
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast, overload

from tritonnb.client.options import IN_FLIGHT, InferOptions
from tritonnb.handle.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from tritonnb.client import InferResult
    from tritonnb.client.streams import Stream

_THREADS = 32


class Concurrent(Protocol):
    """The part of a handle that sends requests side by side."""

    @abstractmethod
    def infer(self, model: str, inputs: Mapping[str, object], **options: Any) -> InferResult:
        """Send one inference request and return its outputs."""

    @overload
    def infer_many(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        concurrency: int = IN_FLIGHT,
        progress: bool = True,
        **options: Any,
    ) -> InferResult: ...

    @overload
    def infer_many(
        self,
        model: str,
        inputs: Iterable[Mapping[str, Any]],
        *,
        concurrency: int = IN_FLIGHT,
        progress: bool = True,
        **options: Any,
    ) -> Stream[InferResult]: ...

    def infer_many(
        self,
        model: str,
        inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        concurrency: int = IN_FLIGHT,
        progress: bool = True,
        **options: Any,
    ) -> InferResult | Stream[InferResult]:
        """Send many inference requests, several at a time, and return their results in order.

        ::

            everything = deployment.infer_many("model", {"x": array_of_any_length})["y"]

            for result in deployment.infer_many("model", ({"x": load(file)} for file in files)):
                ...

        Parameters
        ----------
        model
            Triton's name of the model.
        inputs
            One mapping as for `infer`, whose arrays may be longer than the model's largest batch: it is sent in parts,
            and the answers are joined. Or any number of such mappings, taken as they are needed.
        concurrency
            How many requests are in flight, each over a connection of its own.
        progress
            Whether to show how far it is, from the second second on.
        **options
            As for `infer`, but for sequences, gRPC and shared memory.

        Returns
        -------
        InferResult or Stream of InferResult
            For one mapping its result; for many an iterator, which sends while it is iterated over. ``list(...)`` has
            them all.

        Raises
        ------
        InferenceError
            A name, shape or dtype does not fit, there is no such option, or the model failed. The iterator raises the
            error of the first item that failed, whose number it says, after the results of all before it; nothing more
            is sent then.
        DeploymentError
            The server is not ready, or is gone.
        """
        said = InferOptions.of(options)
        one = hasattr(inputs, "keys")
        items = cast("Iterable[Mapping[str, Any]]", [inputs] if one else inputs)
        results = self._streamed(
            model, lambda client: client.infer_many(model, items, said, concurrency=concurrency, progress=progress)
        )
        return next(results) if one else results

    async def ainfer(self, model: str, inputs: Mapping[str, object], **options: Any) -> InferResult:
        """Send one inference request as `infer` does, without holding up the event loop.

        Any number may be awaited at once; up to 32 are in flight, in threads of their own. One that is cancelled before
        it was sent never is; else its answer is waited for in the background and dropped.

        Parameters
        ----------
        model, inputs, **options
            As for `infer`.

        Returns
        -------
        InferResult
            Arrays by output name.

        Raises
        ------
        InferenceError, DeploymentError
            As `infer`.
        """
        import asyncio  # noqa: PLC0415  (slow to import, and there already where anybody awaits)

        call = functools.partial(self.infer, model, inputs, **options)
        return await asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), call)


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process: a forked child has none of its parent's."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (as asyncio)

    return ThreadPoolExecutor(_THREADS, thread_name_prefix=f"tritonnb-{process}")
