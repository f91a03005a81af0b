"""The v2 protocol's calls, as methods that take and return plain values."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from tritonnb.client.administration import Administration
from tritonnb.client.connection import Answer
from tritonnb.client.generate import generate_request, read_events, read_generated
from tritonnb.client.listings import ModelConfig, Statistics
from tritonnb.client.messages import Messages
from tritonnb.client.options import IN_FLIGHT, InferOptions
from tritonnb.client.paths import model_path, quoted
from tritonnb.client.requests import read_result, refused
from tritonnb.client.results import ModelMetadata, ModelState, TensorMetadata
from tritonnb.client.streams import Stream
from tritonnb.client.transport import Transport
from tritonnb.errors import InferenceError, ServerError, ServerUnreachableError, SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from tritonnb.client.grpc import GrpcCalls
    from tritonnb.client.results import InferResult
    from tritonnb.client.transport import Message
    from tritonnb.endpoint import Endpoint

_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_LOAD_TIMEOUT_S = 600.0  # large models take minutes, and a load that was given up goes on in the server


class Client(Administration):
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
        self._endpoint = endpoint
        self._timeout = timeout
        self._transport = Transport(endpoint, timeout)
        self._messages = Messages(self._transport)
        self._grpc: GrpcCalls | None = None
        # By model and version. A single operation on a dict each, so that threads need no lock.
        self._metadata: dict[tuple[str, str], ModelMetadata] = {}

    def live(self) -> bool:
        """Tell whether the server answers."""
        return self._is_ok("v2/health/live")

    def ready(self) -> bool:
        """Tell whether the server takes inference requests; not whether every model does."""
        return self._is_ok("v2/health/ready")

    def model_ready(self, model: str, version: str = "") -> bool:
        """Tell whether a model takes inference requests; False for one that is not known."""
        return self._is_ok(f"{model_path(model, version)}/ready")

    def server_metadata(self) -> dict[str, Any]:
        """Return the server's ``name``, ``version`` and ``extensions``."""
        said = self._ask("GET", "v2")
        with _reading("the server's metadata"):
            return dict(said)

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Return what a model takes and gives, as the server says it now.

        Parameters
        ----------
        model
            The model's name.
        version
            One of its versions, else the one that the server chooses.

        Raises
        ------
        ServerError
            The model is not known or not ready; the hint names the nearest, or says why it failed.
        """
        said = self._ask_model(model, model_path(model, version))
        config = self.config(model, version)
        with _reading("a model's metadata"):
            configured = {tensor["name"]: tensor for tensor in config.get("input", ())}
            metadata = ModelMetadata(
                said["name"],
                tuple(said.get("versions", ())),
                said.get("platform", ""),
                tuple(_tensor(tensor, configured.get(tensor["name"], {})) for tensor in said.get("inputs", ())),
                tuple(_tensor(tensor, {}) for tensor in said.get("outputs", ())),
                config.get("max_batch_size", 0),
            )
        self._metadata[model, version] = metadata
        return metadata

    def config(self, model: str, version: str = "") -> ModelConfig:
        """Return a model's configuration as the server completed it (Triton's ModelConfig as JSON)."""
        said = self._ask_model(model, f"{model_path(model, version)}/config")
        with _reading("a model's configuration"):
            return ModelConfig(said)

    def statistics(self, model: str = "", version: str = "") -> Statistics:
        """Return the inference statistics of one model, or of all: counts, and times in nanoseconds."""
        path = model_path(model, version) if model else "v2/models"
        said = self._ask_model(model, f"{path}/stats") if model else self._ask("GET", f"{path}/stats")
        with _reading("statistics"):
            return Statistics(said["model_stats"])

    def repository_index(self, *, ready: bool = False) -> list[ModelState]:
        """Return the state of every version of every model in the repository, or of those alone that are ready."""
        said = self._ask("POST", "v2/repository/index", {"ready": True} if ready else {})
        from tritonnb.client.reasons import model_reason  # noqa: PLC0415  (only lists and failures need it)

        with _reading("the repository index"):
            return [
                ModelState(
                    model["name"],
                    model.get("version", ""),
                    # A model that was never loaded has no state.
                    model.get("state") or "UNAVAILABLE",
                    model_reason(model.get("reason", "")),
                )
                for model in said
            ]

    def load(
        self,
        model: str,
        *,
        config: Mapping[str, Any] | str | None = None,
        files: Mapping[str, bytes] | None = None,
        timeout: float = _LOAD_TIMEOUT_S,
    ) -> None:
        """Load a model, or load it again, and return when it is ready.

        Parameters
        ----------
        model
            Its name in the server's repository.
        config
            Triton's ModelConfig, as JSON or what JSON is made of: used instead of the repository's, until the model is
            loaded the next time.
        files
            The model's files by their path in its folder, such as ``1/model.onnx``: used instead of the repository's,
            which need not know the model. They need a ``config`` too.
        timeout
            Seconds to wait.

        Raises
        ------
        ServerError
            It cannot be loaded; the message is the model's own reason.
        SpecError
            There are files without a config.
        """
        if files and not config:
            raise SpecError(
                f"files for model {model!r} need a config too.", hint="load(model, config={...}, files=...)."
            )
        said = {f"file:{path}": b64encode(content).decode() for path, content in (files or {}).items()}
        if config:
            said["config"] = config if isinstance(config, str) else json.dumps(config)
        try:
            self._control(model, "load", timeout, {"parameters": said} if said else {})
        except ServerUnreachableError:
            raise
        except ServerError as error:
            from tritonnb.client.diagnosis import load_error  # noqa: PLC0415  (only a failure needs it)

            failed = load_error(model, error.message, status=error.status)
            failed.hint = failed.hint or error.hint
            raise failed from error

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model, with ``dependents`` also those that it is made of; running requests are finished first."""
        self._control(model, "unload", None, {"parameters": {"unload_dependents": True}} if dependents else {})

    def metadata_changed(self, model: str) -> None:
        """Forget what is known of a model, because it changes."""
        for key in [key for key in list(self._metadata) if key[0] == model]:
            self._metadata.pop(key, None)

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
        if answer.status != _OK:
            raise refused(model, _error(answer))
        return read_generated(model, answer.body)

    def generate_stream(
        self, model: str, inputs: Mapping[str, object], options: InferOptions | None = None
    ) -> Stream[dict[str, Any]]:
        """Ask a model as `generate` does, and return its answers as they come: server-sent events."""
        options = options or InferOptions()
        message = self._generate_message("generate_stream", model, inputs, options)
        status, pieces = self._transport.stream(message, options.timeout)
        if status != _OK:
            raise refused(model, _error(Answer(status, {}, bytearray().join(pieces))))
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
        self._transport.close()
        if self._grpc:
            self._grpc.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

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
        if answer.status != _OK:
            raise refused(model, _error(answer), self._metadata.get((model, options.version)))
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

    def _control(self, model: str, verb: str, timeout: float | None, content: object = None) -> None:
        path = f"v2/repository/models/{quoted(model)}/{verb}"
        try:
            self._ask("POST", path, content or {}, timeout=timeout)
        finally:
            self.metadata_changed(model)

    def _is_ok(self, path: str) -> bool:
        try:
            return self._transport.request("GET", path).status == _OK
        except ServerError:
            return False

    def _ask(self, method: str, path: str, content: object = None, *, timeout: float | None = None) -> Any:
        body = [] if content is None else [json.dumps(content).encode()]
        answer = self._transport.request(
            method,
            path,
            body,
            headers={"Content-Type": "application/json"} if body else None,
            timeout=timeout,
        )
        if answer.status != _OK:
            raise _error(answer)
        if not answer.body:
            return {}
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise ServerError(
                f"{self._transport.url} answered {method} /{path} with something other than JSON: "
                f"{bytes(answer.body[:40])!r}.",
                status=answer.status,
                hint="is it Triton that answers there?",
            ) from error

    def _ask_model(self, model: str, path: str) -> Any:
        try:
            return self._ask("GET", path)
        except ServerError as error:
            if error.status == _NOT_FOUND:
                error.hint = self._why_not(model) or error.hint
            raise

    def _why_not(self, model: str) -> str:
        """Return why a model is not served, or the nearest that is, as far as the server lets us know."""
        # The repository index needs a key of its own on some servers; then there is simply no hint.
        with contextlib.suppress(ServerError):
            states = self.repository_index()
            if mine := [state for state in states if state.name == model]:
                reason = "; ".join(filter(None, (state.reason for state in mine)))
                return f"it is in the repository, but {mine[0].state}: {reason or 'it has not been loaded'}."
            return nearest(model, {state.name for state in states})
        return ""


def _finished(result: InferResult, inputs: Mapping[str, object], options: InferOptions) -> InferResult:
    """Return a result as the options want it shown and its texts read."""
    if options.classes:
        from tritonnb.client.thumbnails import thumbnails  # noqa: PLC0415  (as `many`)

        result.show_classes(thumbnails(inputs))
    if not options.decode:
        return result
    from tritonnb.client.text import with_text  # noqa: PLC0415  (few ask for it)

    return with_text(result)


def _tensor(said: Mapping[str, Any], configured: Mapping[str, Any]) -> TensorMetadata:
    layout = configured.get("format", "FORMAT_NONE")
    return TensorMetadata(
        said["name"],
        said["datatype"],
        tuple(said["shape"]),
        configured.get("optional", False),
        "" if layout == "FORMAT_NONE" else layout,
    )


@contextlib.contextmanager
def _reading(what: str) -> Generator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            f"{what} cannot be read out of the server's answer ({type(error).__name__}: {error}).",
            hint="is it Triton that answers there?",
        ) from error


def _error(answer: Answer) -> ServerError:
    text = answer.body.decode(errors="replace").strip()
    try:
        message = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = text[:300]
    hint = "the key is missing or wrong." if answer.status in (_UNAUTHORIZED, _FORBIDDEN) else ""
    return ServerError(message or f"the server answered with status {answer.status}.", status=answer.status, hint=hint)
