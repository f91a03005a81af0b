"""Triton's Prometheus metrics, which are served at a port of their own."""

from __future__ import annotations

from urllib.parse import urlsplit

from tritonnb.client.listings import Metrics
from tritonnb.client.transport import Transport
from tritonnb.endpoint import Endpoint
from tritonnb.errors import ServerError

_OK = 200
_TIMEOUT_S = 10.0


def read_metrics(endpoint: Endpoint) -> Metrics:
    """Return the metrics as Prometheus text.

    Parameters
    ----------
    endpoint
        The server; its ``metrics_url`` is asked, with its headers.

    Raises
    ------
    ServerUnreachableError
        Nothing answers there.
    ServerError
        Something other than metrics answers.
    """
    parts = urlsplit(endpoint.metrics_url)
    transport = Transport(Endpoint(f"{parts.scheme}://{parts.netloc}", headers=endpoint.headers), _TIMEOUT_S)
    try:
        answer = transport.request("GET", parts.path.lstrip("/"))
    finally:
        transport.close()
    if answer.status != _OK:
        raise ServerError(f"{endpoint.metrics_url} answered with status {answer.status}.", status=answer.status)
    return Metrics(answer.body.decode())
