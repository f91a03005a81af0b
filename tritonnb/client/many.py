"""Many inference requests: several in flight, the answers in order, large arrays in batches that the model takes.

One thread sends and reads, over as many connections as requests are in flight. An answer that has begun to come is
read to its end: most come in one piece, and taking turns would cost more.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.checks import check_inputs, rows_of
from tritonnb.client.connection import ClosedBeforeAnswerError
from tritonnb.client.results import InferResult
from tritonnb.errors import InferenceError, TritonNbError
from tritonnb.render.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tritonnb.client.connection import Answer, Connection
    from tritonnb.client.messages import Messages
    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import ModelMetadata
    from tritonnb.client.transport import Message, Transport

#: So many items may be begun for each request in flight, before the oldest of them is answered.
_AHEAD = 4
_LOOK_S = 0.2  # between two looks at the progress
_ANY_BATCH = 2**31 - 1


@dataclass(slots=True)
class _Item:
    """What one result is made of: inputs, and the answers to the requests that they are sent in."""

    number: int
    inputs: Mapping[str, Any]
    results: list[InferResult | None] = field(default_factory=list)
    missing: int = 0
    error: Exception | None = None


@dataclass(slots=True)
class _Request:
    """A part of an item, on its way."""

    item: _Item
    part: int
    message: Message
    deadline: float
    connection: Connection
    kept: bool  # the connection, from a request before


def check_many(options: InferOptions, concurrency: int) -> None:
    """Refuse what cannot be done with many requests at once.

    Raises
    ------
    InferenceError
        The options are for single requests, or the concurrency is no number from 1 up.
    """
    if type(concurrency) is not int or concurrency < 1:
        raise InferenceError(f"concurrency={concurrency!r} is not a number of requests from 1 up.")
    if options.sequence_id:
        raise InferenceError(
            "the requests of a sequence come one after another, many are sent side by side.",
            hint="send a sequence with `infer`, in a loop.",
        )
    if options.protocol != "http" or options.shared_memory is not None:
        raise InferenceError(
            "many requests are sent over HTTP, without shared memory.",
            hint="leave these options out, or send single requests with `infer`.",
        )


class Many:
    """Sends many requests to one model; used once, in one thread.

    Parameters
    ----------
    transport, messages
        The client's.
    metadata
        What the model takes.
    options
        Of every request.
    read
        Makes an answer a result, or raises why the request was refused.
    concurrency
        How many requests are in flight.
    """

    def __init__(
        self,
        transport: Transport,
        messages: Messages,
        metadata: ModelMetadata,
        options: InferOptions,
        *,
        read: Callable[[Answer], InferResult],
        concurrency: int,
    ) -> None:
        self._transport = transport
        self._messages = messages
        self._metadata = metadata
        self._options = options
        self._part_options = replace(options, scaling="")  # what is one of several parts was scaled before
        self._read = read
        self._concurrency = concurrency
        self._numbered = True
        self._seconds = transport.timeout if options.timeout is None else options.timeout
        self._readable = select.poll()
        self._in_flight: dict[int, _Request] = {}  # by descriptor, the oldest first
        self._begun: deque[_Item] = deque()
        self._answered = 0
        self._ended = False  # nothing more is sent

    def cancel(self) -> None:
        """End what is in flight, from any thread."""
        self._ended = True
        for request in list(self._in_flight.values()):
            request.connection.shut()

    def results(
        self, items: Iterable[Mapping[str, Any]], *, progress: bool = True
    ) -> Iterator[tuple[Mapping[str, Any], InferResult]]:
        """Yield the inputs and the result of each item, in order; items are taken only as they are needed.

        Raises
        ------
        Exception
            What went wrong with the first item that failed, after the results of all before it.
        """
        total = len(items) if isinstance(items, Sized) else 0
        self._numbered = total != 1
        parts = self._parts(items)
        done = 0
        try:
            with Progress(f"Requests to {self._metadata.name!r}") as shown:
                while True:
                    self._fill(parts)
                    if not self._begun:
                        return
                    item = self._begun[0]
                    if item.error is not None:
                        raise item.error
                    if item.missing:
                        if progress:
                            share = done + 1 - item.missing / len(item.results)
                            shown.report(f"{self._answered} answered", share / total if total else None)
                        self._wait()
                    else:
                        self._begun.popleft()
                        done += 1
                        yield item.inputs, _joined(item.results)
        finally:
            # An error, Ctrl-C or nobody who wants the rest: what is still to come must be read by nobody.
            for request in self._in_flight.values():
                request.connection.close()

    def _parts(self, items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[_Item, int, Mapping[str, Any]]]:
        """Begin item after item, and yield the inputs of each request."""
        for number, inputs in enumerate(items):
            item = _Item(number, inputs)
            self._begun.append(item)
            try:
                count, parts = self._split(inputs)
            except TritonNbError as error:
                self._fail(item, 0, error)
                return
            item.results, item.missing = [None] * count, count
            for part, sent in enumerate(parts):
                yield item, part, sent

    def _split(self, inputs: Mapping[str, Any]) -> tuple[int, Iterable[Mapping[str, Any]]]:
        """Return in how many requests inputs are to be sent, and the inputs of each."""
        if not hasattr(inputs, "keys"):
            raise InferenceError(
                f"inputs by name are expected, not a {type(inputs).__name__}.",
                hint='many: [{"x": first}, {"x": second}, ...]; one large array: {"x": array}.',
            )
        most = self._metadata.max_batch_size
        if not most or all(rows_of(inputs[name]) <= most for name in inputs):
            return 1, [inputs]
        arrays = check_inputs(replace(self._metadata, max_batch_size=_ANY_BATCH), inputs, self._options.scaling)
        rows = next(iter(arrays.values())).shape[0]
        starts = range(0, rows, most)
        return len(starts), ({name: array[n : n + most] for name, array in arrays.items()} for n in starts)

    def _fill(self, parts: Iterator[tuple[_Item, int, Mapping[str, Any]]]) -> None:
        """Send until as many requests are in flight as there shall be."""
        while (
            len(self._in_flight) < self._concurrency
            and len(self._begun) < _AHEAD * self._concurrency
            and not self._ended
        ):
            try:
                item, part, inputs = next(parts)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001  (of whoever gives the items; raised when its turn comes)
                self._begun.append(_Item(-1, {}, error=error))
                self._ended = True
                return
            options = self._options if len(item.results) == 1 else self._part_options
            try:
                self._send(item, part, self._messages.message(self._metadata, inputs, options))
            except TritonNbError as error:
                self._fail(item, part, error)

    def _send(self, item: _Item, part: int, message: Message, *, again: bool = False) -> None:
        deadline = time.monotonic() + self._seconds
        try:
            connection = None if again else self._transport.idle()
            kept = connection is not None
            connection = connection or self._transport.connect(deadline)
            self._in_flight[connection.fileno()] = _Request(item, part, message, deadline, connection, kept)
            self._readable.register(connection, select.POLLIN)
            connection.send(message.parts, message.size, deadline)
        except OSError as error:
            self._transport.explain(error, message, self._seconds)

    def _wait(self) -> None:
        """Wait for answers, but not long, and take those that came."""
        descriptor, oldest = next(iter(self._in_flight.items()))
        wait_s = min(_LOOK_S, oldest.deadline - time.monotonic())
        ready = self._readable.poll(max(0.0, wait_s) * 1e3) or ([(descriptor, 0)] if wait_s <= 0 else [])
        for descriptor, _ in ready:
            self._take(descriptor)

    def _take(self, descriptor: int) -> None:
        """Read an answer that has begun to come, or whose time has run out."""
        request = self._in_flight.pop(descriptor)
        self._readable.unregister(descriptor)
        try:
            result = self._answer(request)
        except TritonNbError as error:
            self._fail(request.item, request.part, error)
            return
        if result is not None:
            request.item.results[request.part] = result
            request.item.missing -= 1
            self._answered += 1

    def _answer(self, request: _Request) -> InferResult | None:
        """Return the result of a request; None where it was sent again."""
        try:
            answer = request.connection.receive(request.deadline)
        except BaseException as error:
            request.connection.close()
            if isinstance(error, ClosedBeforeAnswerError) and request.kept and not self._ended:
                self._send(request.item, request.part, request.message, again=True)
                return None
            if isinstance(error, OSError):
                self._transport.explain(error, request.message, self._seconds)
            raise
        self._transport.keep(request.connection)
        return self._read(answer)

    def _fail(self, item: _Item, part: int, error: TritonNbError) -> None:
        """Let an item's turn end in an error, and begin no other."""
        where = [f"item {item.number}"] if self._numbered else []
        if len(item.results) > 1:
            most = self._metadata.max_batch_size
            where.append(f"rows {part * most} to {part * most + most - 1}")
        error.message = ": ".join([", ".join(where), error.message]) if where else error.message
        item.error = item.error or error
        self._ended = True


def _joined(results: Sequence[InferResult | None]) -> InferResult:
    """Return the results of an item's parts as one."""
    parts = [result for result in results if result is not None]
    first = parts[0]
    if len(parts) == 1:
        return first
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in first}
    return InferResult(arrays, model=first.model, version=first.version, id=first.id, parameters=first.parameters)
