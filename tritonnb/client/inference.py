"""Inference, in all the ways that the protocol has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonnb.client.connection import Answer
from tritonnb.client.generate import generate_request, read_events, read_generated
from tritonnb.client.messages import Messages
from tritonnb.client.options import IN_FLIGHT, InferOptions
from tritonnb.client.paths import model_path
from tritonnb.client.requests import read_result, refused
from tritonnb.client.server import OK, Server, error_of
from tritonnb.client.streams import Stream
from tritonnb.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tritonnb.client.grpc import GrpcCalls
    from tritonnb.client.results import InferResult, ModelMetadata
    from tritonnb.client.transport import Message
    from tritonnb.endpoint import Endpoint


class Client(Server):
    """Talks to one Triton server. Safe to use from several threads at once.

    Parameters
    ----------
    endpoint
        The server's address and the headers of its key. Nothing is sent until something is asked.
    timeout
        Seconds that a call may take.

    Raises
    ------
    SpecError
        The endpoint's URL cannot be used.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 60.0) -> None:
        super().__init__(endpoint, timeout=timeout)
        self._messages = Messages(self._transport)
        self._grpc: GrpcCalls | None = None

    def infer(self, model: str, inputs: Mapping[str, object], options: InferOptions | None = None) -> InferResult:
        """Send one inference request and return its outputs.

        Parameters
        ----------
        model
            The model's name.
        inputs
            Arrays, nested lists or scalars by input name, with the batch dimension where the model has one. A
            dtype other than the model's is cast where no value changes by it.
        options
            What else is said of the request.

        Returns
        -------
        InferResult
            Arrays by output name; BYTES outputs hold ``bytes`` objects.

        Raises
        ------
        InferenceError
            The request does not fit the model, found before anything was sent; or, as `RequestRefusedError`,
            the server or the model refused it.
        ServerError
            The model is not known or not ready, or no answer came.
        """
        options = options or InferOptions()
        self._check_key_kept(options)
        known = self._metadata.get((model, options.version))
        metadata = known or self.metadata(model, options.version)
        try:
            return self._infer(metadata, inputs, options)
        except InferenceError:
            # The model may have been loaded anew with other inputs: look again, once.
            self._metadata.pop((model, options.version), None)
            if known is None or (now := self.metadata(model, options.version)) == known:
                raise
        return self._infer(now, inputs, options)

    def stream(
        self, model: str, inputs: Mapping[str, object], options: InferOptions | None = None
    ) -> Stream[InferResult]:
        """Send one inference request over gRPC and return its answers as they come, of a decoupled model or another.

        Parameters
        ----------
        model, inputs, options
            As for `infer`; the timeout is how long each answer may take to come.

        Raises
        ------
        InferenceError
            The request does not fit the model. What the server or the model refuses is raised by the stream's steps.
        SpecError
            The gRPC address is not known.
        """
        options = options or InferOptions()
        self._check_key_kept(options)
        # A stream lasts: the model's metadata may as well be asked anew.
        answers = self._over_grpc().stream(self.metadata(model, options.version), inputs, options)
        return Stream((_finished(answer, inputs, options) for answer in answers), answers.close)

    def generate(self, model: str, inputs: Mapping[str, object], options: InferOptions | None = None) -> dict[str, Any]:
        """Ask a model in plain JSON, by Triton's generate extension.

        Parameters
        ----------
        model
            The model's name.
        inputs
            Numbers, texts or lists of them by input name; numpy arrays will do.
        options
            Of these the version, request_id, timeout, parameters and headers.

        Returns
        -------
        dict
            Values by output name, and ``model_name``, ``model_version``, ``id``.
        """
        options = options or InferOptions()
        answer = self._transport.exchange(self._generate_message("generate", model, inputs, options), options.timeout)
        if answer.status != OK:
            raise refused(model, error_of(answer))
        return read_generated(model, answer.body)

    def generate_stream(
        self, model: str, inputs: Mapping[str, object], options: InferOptions | None = None
    ) -> Stream[dict[str, Any]]:
        """Ask a model as `generate` does, and return its answers as they come: server-sent events."""
        options = options or InferOptions()
        message = self._generate_message("generate_stream", model, inputs, options)
        status, pieces = self._transport.stream(message, options.timeout)
        if status != OK:
            raise refused(model, error_of(Answer(status, {}, bytearray().join(pieces))))
        return Stream(read_events(model, pieces), pieces.close)

    def infer_many(
        self,
        model: str,
        items: Iterable[Mapping[str, Any]],
        options: InferOptions | None = None,
        *,
        concurrency: int = IN_FLIGHT,
        progress: bool = True,
    ) -> Stream[InferResult]:
        """Send many inference requests, several at a time, and return their results in order.

        Parameters
        ----------
        model
            The model's name.
        items
            What `infer` takes as inputs, any number of them, taken as they are needed. A batch larger than the model's
            largest is sent in parts, and the answers are joined.
        options
            Of every request.
        concurrency
            How many requests are in flight, each over a connection of its own.
        progress
            Whether to show how far it is, from the second second on.

        Returns
        -------
        Stream of InferResult
            An iterator; it sends while it is iterated over.

        Raises
        ------
        InferenceError, ServerError
            As `infer`. The first item that fails ends all: its error, which says which it was, is raised after the
            results of all items before it.
        """
        from tritonnb.client.many import Many, check_many  # noqa: PLC0415  (who sends one request is not to wait for it)

        options = options or InferOptions()
        self._check_key_kept(options)
        check_many(options, concurrency)
        metadata = self.metadata(model, options.version)
        many = Many(
            self._transport,
            self._messages,
            metadata,
            options,
            read=lambda answer: read_result(self._accepted(model, answer, options)),
            concurrency=concurrency,
        )
        results = many.results(items, progress=progress)
        return Stream((_finished(result, inputs, options) for inputs, result in results), many.cancel)

    def close(self) -> None:
        """Close the connections of all threads. The client cannot be used any more."""
        super().close()
        if self._grpc:
            self._grpc.close()

    def _infer(self, metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions) -> InferResult:
        send = self._over_grpc().infer if options.protocol == "grpc" else self._infer_http
        return _finished(send(metadata, inputs, options), inputs, options)

    def send_infer(
        self, model: str, options: InferOptions, parts: Sequence[bytes | memoryview], headers: Mapping[str, str]
    ) -> Answer:
        """Send an inference request that is ready to go, and return the answer to be read.

        Raises
        ------
        RequestRefusedError
            The server or the model refused it.
        """
        path = f"{model_path(model, options.version)}/infer"
        return self._send(model, self._transport.message("POST", path, parts, headers), options)

    def _infer_http(self, metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions) -> InferResult:
        if options.shared_memory is not None:
            return options.shared_memory.infer(self, metadata, inputs, options)
        return read_result(self._send(metadata.name, self._messages.message(metadata, inputs, options), options))

    def _send(self, model: str, message: Message, options: InferOptions) -> Answer:
        # A sequence would count a request twice.
        return self._accepted(
            model, self._transport.exchange(message, options.timeout, again=not options.sequence_id), options
        )

    def _accepted(self, model: str, answer: Answer, options: InferOptions) -> Answer:
        if answer.status != OK:
            raise refused(model, error_of(answer), self._metadata.get((model, options.version)))
        return answer

    def _generate_message(self, verb: str, model: str, inputs: Mapping[str, object], options: InferOptions) -> Message:
        self._check_key_kept(options)
        body = generate_request(self.metadata(model, options.version), inputs, options)
        path = f"{model_path(model, options.version)}/{verb}"
        return self._transport.message("POST", path, [body], {"Content-Type": "application/json", **options.headers})

    def _over_grpc(self) -> GrpcCalls:
        if self._grpc is None:
            from tritonnb.client.grpc import GrpcCalls  # noqa: PLC0415  (heavy, and only for those who ask for it)

            self._grpc = GrpcCalls(self._endpoint, self._timeout)
        return self._grpc

    def _check_key_kept(self, options: InferOptions) -> None:
        if options.headers:
            keys = {name.lower() for name in self._endpoint.headers}
            for name in options.headers:
                if name.lower() in keys:
                    raise InferenceError(
                        f"the header {name!r} is the server's own.", hint="another key: connect(url, key=...)."
                    )


def _finished(result: InferResult, inputs: Mapping[str, object], options: InferOptions) -> InferResult:
    """Return a result as the options want it shown and its texts read."""
    if options.classes:
        from tritonnb.client.thumbnails import thumbnails  # noqa: PLC0415  (as `many`)

        result.show_classes(thumbnails(inputs))
    if not options.decode:
        return result
    from tritonnb.client.text import with_text  # noqa: PLC0415  (few ask for it)

    return with_text(result)
