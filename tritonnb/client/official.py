"""NVIDIA's own clients, made for an endpoint: the address as they want it, and the key in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tritonnb.client.grpc_address import grpc_address, grpc_metadata
from tritonnb.errors import TritonNbError

if TYPE_CHECKING:
    from tritonnb.endpoint import Endpoint

PROTOCOLS = ("http", "grpc")


def official_client(endpoint: Endpoint, protocol: str) -> Any:
    """Return an ``InferenceServerClient`` of ``tritonclient.http`` or ``tritonclient.grpc``.

    Parameters
    ----------
    endpoint
        The server. Its headers are sent with every call.
    protocol
        One of `PROTOCOLS`.

    Raises
    ------
    TritonNbError
        ``tritonclient[http]`` is not installed.
    SpecError
        The gRPC address is not known.
    """
    if protocol == "grpc":
        import tritonclient.grpc as triton  # noqa: PLC0415  (heavy, and only for those who ask for it)

        address = grpc_address(endpoint)
        client = triton.InferenceServerClient(address.target, ssl=address.secure)
        headers = grpc_metadata(endpoint)
    else:
        try:
            import tritonclient.http as triton  # noqa: PLC0415  (imports gevent)
        except ImportError as error:
            raise TritonNbError(
                f"tritonclient's HTTP client is not installed ({error}).", hint="`pip install 'tritonclient[http]'`."
            ) from error
        parts = urlsplit(endpoint.url)
        client = triton.InferenceServerClient(parts.netloc + parts.path, ssl=parts.scheme == "https")
        headers = dict(endpoint.headers)
    client.register_plugin(_headers_plugin(headers))
    return client


def _headers_plugin(headers: dict[str, str]) -> Any:
    from tritonclient._plugin import InferenceServerClientPlugin  # noqa: PLC0415  (as above)

    class Headers(InferenceServerClientPlugin):  # type: ignore[misc]  # tritonclient has no types
        def __call__(self, request: Any) -> None:
            request.headers.update(headers)

    return Headers()
