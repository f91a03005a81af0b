"""The bytes of an inference request, whole and built once: nothing of it is left to do while load is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tritonnb.client.paths import model_path
from tritonnb.client.tensors import HEADER_LENGTH, datatype_of, encode_request, encode_tensor
from tritonnb.client.transport import header_lines, parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tritonnb.endpoint import Endpoint

    Arrays = Mapping[str, NDArray[Any]]


def http_bytes(
    endpoint: Endpoint, model: str, version: str, arrays: Arrays, places: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """Return an HTTP request with its head, the endpoint's key in it.

    Parameters
    ----------
    endpoint, model, version
        Whom to ask.
    arrays
        By input name.
    places
        Where each of them lies in shared memory, as the protocol's parameters say it; else they are sent.
    """
    base = parse_url(endpoint.url)[2]
    parts, header_length = encode_request(arrays)
    if places:
        described = zip(_described(arrays), places, strict=True)
        inputs = [{**tensor, "parameters": place} for tensor, place in described]
        parts = [json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()]
        header_length = len(parts[0])
    head = (
        f"POST {base}/{model_path(model, version)}/infer HTTP/1.1\r\n"
        + header_lines({"Host": urlsplit(endpoint.url).netloc, **endpoint.headers})
        + f"Content-Type: application/octet-stream\r\n{HEADER_LENGTH}: {header_length}\r\n"
        + f"Content-Length: {sum(len(part) for part in parts)}\r\n\r\n"
    )
    return b"".join([head.encode(), *parts])


def post_bytes(address: Endpoint, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST to an address itself, whatever answers there, with its head and the address's key in it.

    Parameters
    ----------
    address
        Its ``url`` is the whole address, path and query included.
    body
        What is sent.
    headers
        Beside the address's own.
    """
    parts = urlsplit(address.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = (
        f"POST {target} HTTP/1.1\r\n"
        + header_lines({"Host": parts.netloc, **address.headers, **headers})
        + f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def grpc_bytes(model: str, version: str, arrays: Arrays, places: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """Return a serialized ``ModelInferRequest``, as `http_bytes`; the key travels beside it."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest  # noqa: PLC0415  (heavy, and only for gRPC)

    request = ModelInferRequest(model_name=model, model_version=version)
    for tensor in _described(arrays):
        request.inputs.add(**tensor)
    for tensor, place in zip(request.inputs, places, strict=False):
        for name, value in place.items():
            kind = "string_param" if isinstance(value, str) else "int64_param"
            setattr(tensor.parameters[name], kind, value)
    if not places:
        request.raw_input_contents.extend(bytes(encode_tensor(array)) for array in arrays.values())
    return bytes(request.SerializeToString())


def _described(arrays: Arrays) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape} for name, array in arrays.items()
    ]
