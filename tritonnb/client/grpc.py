"""Inference over gRPC, and streams of answers, which HTTP has not. The schema and the stubs are tritonclient's."""

from __future__ import annotations

import os
import queue
import re
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc.service_pb2 import ModelInferRequest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tritonnb.client.checks import check_inputs
from tritonnb.client.grpc_address import grpc_address, grpc_metadata
from tritonnb.client.requests import refused, request_parameters, wanted_outputs
from tritonnb.client.results import InferResult
from tritonnb.client.streams import Stream
from tritonnb.client.tensors import datatype_of, decode_tensor, encode_tensor
from tritonnb.errors import ServerError, ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tritonnb.client.grpc_address import GrpcAddress
    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import ModelMetadata
    from tritonnb.endpoint import Endpoint

_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that is started again is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
#: gRPC's codes as the HTTP status that Triton gives for the same.
_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 413,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
# UNAVAILABLE is what Triton answers for some refusals, and what gRPC itself says where no answer came.
_NO_ANSWER = re.compile(
    r"failed to connect|socket closed|connection (reset|refused)|broken pipe|goaway|resolving|resolution|unreachable"
    r"|handshak|keepalive|recvmsg|ping timeout",
    re.IGNORECASE,
)
_RESTRICTED = re.compile(r"protocol is restricted")
_FINAL = "triton_final_response"


class GrpcCalls:
    """Inference over one gRPC channel, made at the first call. Safe to use from several threads at once.

    Parameters
    ----------
    endpoint
        The server.
    timeout
        Seconds that an answer may take, unless a request brings its own.

    Raises
    ------
    SpecError
        The gRPC address is not known.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._address = grpc_address(endpoint)
        self._key = grpc_metadata(endpoint)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._channel: Any = None
        self._service: Any = None
        self._process = 0
        self._closed = False

    def infer(self, metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions) -> InferResult:
        """Send one inference request and return its outputs; as `tritonnb.client.Client.infer`."""
        request = infer_request(metadata, inputs, options)
        seconds = options.timeout or self._timeout
        try:
            response = self._stub().ModelInfer(
                request, timeout=seconds, metadata=self._headers(options), compression=_compression(options)
            )
        except grpc.RpcError as error:
            raise self._explained(error, metadata, seconds) from error
        return read_response(response)

    def stream(
        self, metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions
    ) -> Stream[InferResult]:
        """Send one inference request and return its answers, however many; as `tritonnb.client.Client.stream`."""
        request = infer_request(metadata, inputs, options)
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        call = self._stub().ModelStreamInfer(
            iter([request]), metadata=self._headers(options), compression=_compression(options)
        )
        return Stream(self._results(call, metadata, options.timeout or self._timeout), call.cancel)

    def close(self) -> None:
        """Close the channel; requests that wait end with an error."""
        with self._lock:
            self._closed = True
            if self._channel and self._process == os.getpid():
                self._channel.close()

    def _results(self, call: Any, metadata: ModelMetadata, seconds: float) -> Iterator[InferResult]:
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # gRPC's own iterator cannot wait for a while only.
        threading.Thread(target=_pump, args=(call, arrived), name="tritonnb-stream", daemon=True).start()
        final = None
        while True:
            try:
                message = arrived.get(timeout=seconds)
            except queue.Empty:
                raise self._timed_out(seconds) from None
            if isinstance(message, grpc.RpcError):
                raise self._explained(message, metadata, seconds) from message
            if message is None:
                if final is None:  # a server that does not tell which answer is the last
                    return
                raise ServerUnreachableError(f"the stream of model {metadata.name!r} ended before its last answer.")
            if message.error_message:
                raise refused(metadata.name, ServerError(message.error_message, status=500), metadata)
            response = message.infer_response
            final = response.parameters[_FINAL].bool_param if _FINAL in response.parameters else final
            if response.outputs or not final:
                yield read_response(response)
            if final:
                return

    def _stub(self) -> Any:
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._process != os.getpid():  # a channel does not survive a fork
                self._channel, self._process = _open_channel(self._address), os.getpid()
                self._service = GRPCInferenceServiceStub(self._channel)
            return self._service

    def _headers(self, options: InferOptions) -> list[tuple[str, str]]:
        own = {name.lower(): value for name, value in options.headers.items()}
        return [*self._key.items(), *own.items()]

    def _explained(self, error: Any, metadata: ModelMetadata, seconds: float) -> ServerError:
        code, details = error.code().name, error.details() or ""
        if self._closed:
            return self._is_closed()
        if code == "DEADLINE_EXCEEDED":
            return self._timed_out(seconds)
        if code == "UNAVAILABLE" and _NO_ANSWER.search(details):
            return ServerUnreachableError(
                f"no answer over gRPC from {self._address.target}: {details.rstrip('.')}.",
                hint="check that the server runs, and that this is its gRPC port.",
            )
        if _RESTRICTED.search(details):
            return refused(metadata.name, ServerError(details, status=403, hint="the key is missing or wrong."))
        return refused(metadata.name, ServerError(details or code, status=_STATUS.get(code, 500)), metadata)

    def _timed_out(self, seconds: float) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"{self._address.target} did not answer over gRPC within {seconds:g} s.",
            hint="the server's log may say what it is busy with; a slow model needs a longer timeout.",
        )

    def _is_closed(self) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"the client of {self._address.target} is closed.", hint="deploy or connect again."
        )


def infer_request(metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions) -> ModelInferRequest:
    """Return a request as gRPC sends it.

    Raises
    ------
    InferenceError
        It does not fit the model.
    """
    request = ModelInferRequest(model_name=metadata.name, model_version=options.version, id=options.request_id)
    outputs = wanted_outputs(metadata, options)
    for name, array in check_inputs(metadata, inputs, options.scaling).items():
        request.inputs.add(name=name, datatype=datatype_of(array.dtype), shape=array.shape)
        request.raw_input_contents.append(bytes(encode_tensor(array)))
    for name in outputs or ():
        output = request.outputs.add(name=name)
        if options.classes:
            output.parameters["classification"].int64_param = options.classes
    for name, value in request_parameters(options).items():
        # Triton takes this one as unsigned alone.
        kind = (
            "uint64" if name == "priority" else {bool: "bool", int: "int64", float: "double"}.get(type(value), "string")
        )
        setattr(request.parameters[name], f"{kind}_param", value)
    return request


def read_response(response: Any) -> InferResult:
    """Return the result that a ``ModelInferResponse`` holds.

    Raises
    ------
    ServerError
        Its tensors do not fit what it says of them.
    """
    if len(response.outputs) != len(response.raw_output_contents):
        raise ServerError(
            f"{len(response.raw_output_contents)} tensors came over gRPC, {len(response.outputs)} were announced.",
            hint="only servers that send raw tensors, as Triton does, can be asked over gRPC.",
        )
    return InferResult(
        {
            output.name: decode_tensor(raw, output.datatype, list(output.shape))
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        },
        model=response.model_name,
        version=response.model_version,
        id=response.id,
        parameters={
            name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in response.parameters.items()
            if name != _FINAL
        },
    )


def _pump(call: Any, arrived: queue.SimpleQueue[Any]) -> None:
    try:
        for message in call:
            arrived.put(message)
        arrived.put(None)
    except grpc.RpcError as error:
        arrived.put(error)


def _compression(options: InferOptions) -> Any:
    return _COMPRESSION.get(options.compression)


def _open_channel(address: GrpcAddress) -> Any:
    if not address.secure:
        return grpc.insecure_channel(address.target, _CHANNEL)
    # The authorities that the HTTP transport trusts; gRPC brings its own.
    trusted = ssl.get_default_verify_paths().cafile
    roots = Path(trusted).read_bytes() if trusted else None
    return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(roots), _CHANNEL)
