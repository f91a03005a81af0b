"""Where a Triton server answers: all that client, measure and score need to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Endpoint:
    """The addresses of a Triton server and the headers that its key asks for.

    Parameters
    ----------
    url
        The HTTP address with scheme and optional base path, without a trailing slash.
    grpc_url
        ``host:port`` of the gRPC service; with TLS ``grpcs://host:port``. Empty where unknown.
    metrics_url
        The address of the Prometheus metrics; empty where unknown.
    headers
        Sent with every request. Left out of the repr, because they hold the key.
    """

    url: str
    grpc_url: str = ""
    metrics_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
