"""The bytes of an inference request, whole and built once: nothing of it is left to do while load is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tritonnb.client.paths import model_path
from tritonnb.client.tensors import HEADER_LENGTH, datatype_of, encode_request, encode_tensor
from tritonnb.client.transport import header_lines, parse_url
from tritonnb.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tritonnb.endpoint import Endpoint


def http_bytes(endpoint: Endpoint, model: str, version: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return an HTTP request with its head, the endpoint's key in it."""
    base = parse_url(endpoint.url)[2]
    parts, header_length = encode_request(arrays)
    head = (
        f"POST {base}/{model_path(model, version)}/infer HTTP/1.1\r\n"
        + header_lines({"Host": urlsplit(endpoint.url).netloc, **endpoint.headers})
        + f"Content-Type: application/octet-stream\r\n{HEADER_LENGTH}: {header_length}\r\n"
        + f"Content-Length: {sum(len(part) for part in parts)}\r\n\r\n"
    )
    return b"".join([head.encode(), *parts])


def grpc_bytes(model: str, version: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a serialized ``ModelInferRequest``; the key travels beside it."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest  # noqa: PLC0415  (heavy, and only for gRPC)

    request = ModelInferRequest(model_name=model, model_version=version)
    for name, array in arrays.items():
        request.inputs.add(name=name, datatype=datatype_of(array.dtype), shape=array.shape)
        request.raw_input_contents.append(bytes(encode_tensor(array)))
    return bytes(request.SerializeToString())


def grpc_metadata(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the endpoint's headers as gRPC's: for Triton's restricted protocols, and for a proxy in front."""
    lower = [(name.lower(), value) for name, value in headers.items()]
    return lower + [(f"triton-grpc-protocol-{name}", value) for name, value in lower]


def address(endpoint: Endpoint, protocol: str) -> tuple[str, int, bool]:
    """Return the host and port of a protocol, and whether it is encrypted."""
    if protocol == "http":
        (host, port), tls, _ = parse_url(endpoint.url)
        return host, port, tls is not None
    host, _, port_text = endpoint.grpc_url.rpartition(":")
    if not (host and port_text.isdigit()):
        raise SpecError("The gRPC address is not known.", hint="connect(url, grpc_url='host:8001').")
    return host, int(port_text), endpoint.url.startswith("https:")
