"""Where and how a server is asked over gRPC, without importing gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tritonnb.errors import SpecError

if TYPE_CHECKING:
    from tritonnb.endpoint import Endpoint

_SECURE = {"grpc": False, "grpcs": True}


class GrpcAddress(NamedTuple):
    """The address of a gRPC service.

    Parameters
    ----------
    target
        ``host:port``.
    secure
        Whether to speak TLS.
    """

    target: str
    secure: bool


def grpc_address(endpoint: Endpoint) -> GrpcAddress:
    """Return where an endpoint's gRPC service answers.

    Without a scheme, ``grpc://`` or ``grpcs://``, it speaks TLS where the endpoint's HTTP does: a key must not travel
    open beside it.

    Raises
    ------
    SpecError
        The address is not known, or has another scheme.
    """
    scheme, found, target = endpoint.grpc_url.rpartition("://")
    if not target or (found and scheme not in _SECURE):
        what = f"{endpoint.grpc_url!r} is no gRPC address" if target else "The gRPC address is not known"
        raise SpecError(f"{what}.", hint="connect(url, grpc_url='host:8001'), with TLS 'grpcs://host:8001'.")
    return GrpcAddress(target.rstrip("/"), _SECURE.get(scheme, endpoint.url.startswith("https:")))


def grpc_metadata(endpoint: Endpoint) -> dict[str, str]:
    """Return gRPC's metadata for an endpoint's headers.

    Triton wants the key of a restricted protocol under a name of its own; a proxy in front wants the usual one.
    """
    sent = {name.lower(): value for name, value in endpoint.headers.items()}
    return {**sent, **{f"triton-grpc-protocol-{name}": value for name, value in sent.items()}}
