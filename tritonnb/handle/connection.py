"""A connection to a v2 server that runs already, whoever started it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonnb.client import Client
from tritonnb.endpoint import Endpoint
from tritonnb.errors import DeploymentError, ServerError, ServerUnreachableError
from tritonnb.handle import current
from tritonnb.handle.served import ANSWER_WITHIN_S, Served

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASKS_FOR_KEY = (401, 403)


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
        with Client(self._endpoint, timeout=ANSWER_WITHIN_S) as client:
            if client.ready():
                return "ready"
            return "starting" if client.live() else "failed"

    @property
    def endpoint(self) -> Endpoint:
        """All addresses and the key."""
        return self._endpoint

    def _running_client(self) -> Client:
        if self._closed:
            raise DeploymentError(f"Connection {self.name!r} was closed.", hint="connect again.")
        return self._client

    def load(
        self, model: str, *, config: Mapping[str, Any] | str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model, or load it anew; with a configuration or files of its own instead of the repository's.

        Parameters
        ----------
        model
            Its name in the server's repository.
        config, files
            See `tritonnb.client.Client.load`.

        Raises
        ------
        ServerError
            The model could not be loaded; a version that was loaded before goes on serving.
        """
        self._running_client().load(model, config=config, files=files)

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
        What to call it (default: the address without ``http://``).
    headers
        Further headers of every request.
    grpc_url, metrics_url
        Its other addresses, where they are to be used; a gRPC service with TLS is ``grpcs://host:port``.

    Raises
    ------
    SpecError
        The address cannot be used.
    ServerUnreachableError
        Nothing answers there.
    ServerError
        The key is missing or wrong, or it is no v2 server.
    DeploymentError
        Another deployment or connection of this kernel has the name. One with the same address is connected anew.
    """
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    endpoint = Endpoint(address, grpc_url=grpc_url, metrics_url=metrics_url, headers=sent)
    name = name or address.partition("://")[2]
    before = next((handle for handle in current.deployments() if handle.name == name), None)
    if before and not (isinstance(before, Connection) and before.url == address):
        raise DeploymentError(f"The name {name!r} is taken: {before!r}.", hint="give another with `name=`.")
    connection = Connection(name, endpoint)
    try:
        _check_protocol(connection)
    except BaseException:
        connection.delete()
        raise
    if before:
        before.delete()
    current.remember(connection)
    return connection


def _check_protocol(connection: Connection) -> None:
    try:
        told = connection._running_client().server_metadata()  # noqa: SLF001  (of the same module)
    except ServerUnreachableError:
        raise
    except ServerError as error:
        if error.status in _ASKS_FOR_KEY:
            raise
        raise _no_v2(connection.url, error.message) from error
    if "name" not in told:
        raise _no_v2(connection.url, f"{told!r:.80}")


def _no_v2(url: str, seen: str) -> ServerError:
    return ServerError(
        f"{url} answers, but not as a v2 inference server does: {seen.rstrip('.')}.",
        hint="is it Triton's HTTP port, with the right base path?",
    )
