"""A connection to a v2 server that runs already, whoever started it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tritonnb.client import Client
from tritonnb.endpoint import Endpoint
from tritonnb.errors import DeploymentError
from tritonnb.handle import current
from tritonnb.handle.served import Served

if TYPE_CHECKING:
    from collections.abc import Mapping


class Connection(Served):
    """A handle on a server that somebody else runs: everything that does not need its process.

    Made by `connect`.

    Parameters
    ----------
    name
        What it is called in this kernel.
    endpoint
        Where the server answers.
    """

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        super().__init__(name)
        self._endpoint = endpoint
        self._client = Client(endpoint)
        self._closed = False

    @property
    def state(self) -> str:
        """In a word: ready, starting (live, but not ready), failed (no answer) or stopped (disconnected)."""
        if self._closed:
            return "stopped"
        if self._client.ready():
            return "ready"
        return "starting" if self._client.live() else "failed"

    @property
    def endpoint(self) -> Endpoint:
        """All addresses and the key."""
        return self._endpoint

    def _running_client(self) -> Client:
        if self._closed:
            raise DeploymentError(f"Connection {self.name!r} was closed.", hint="connect again.")
        return self._client

    def delete(self) -> None:
        """Disconnect; the server goes on. May be called again."""
        self._closed = True
        self._client.close()
        current.forget(self)

    def __repr__(self) -> str:
        return f"<Connection {self.name!r}: {self.state}>"


def connect(
    url: str,
    *,
    key: str = "",
    name: str = "",
    headers: Mapping[str, str] | None = None,
    grpc_url: str = "",
    metrics_url: str = "",
) -> Connection:
    """Connect to a running v2 server: Triton anywhere, or another that speaks the protocol.

    Parameters
    ----------
    url
        Its HTTP address: ``http://`` or ``https://``, host, port and base path; ``host:port`` will do.
    key
        Sent as ``Authorization: Bearer KEY``.
    name
        What to call it (default: the host).
    headers
        Further headers of every request.
    grpc_url, metrics_url
        Its other addresses, where they are to be used.

    Raises
    ------
    SpecError
        The address cannot be used.
    ServerUnreachableError
        Nothing answers there.
    ServerError
        The key is missing or wrong, or it is no v2 server.
    """
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    endpoint = Endpoint(address, grpc_url=grpc_url, metrics_url=metrics_url, headers=sent)
    connection = Connection(name or urlsplit(address).hostname or address, endpoint)
    try:
        connection._client.server_metadata()  # noqa: SLF001  (the first question of all, asked before it is known)
    except BaseException:
        connection.delete()
        raise
    current.remember(connection)
    return connection
