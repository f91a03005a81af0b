"""Requests to one server from any thread: a keep-alive connection per thread, errors that say what to do.

A connection that saw any trouble is closed, so no later request can read an answer meant for another.
"""

from __future__ import annotations

import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit

from tritonnb.client.connection import Answer, ClosedBeforeAnswerError, Connection
from tritonnb.errors import ServerUnreachableError, SpecError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from tritonnb.endpoint import Endpoint

#: What a path may hold as it is (RFC 3986). Triton compares paths as they come, without unquoting them.
PATH_SAFE = "/%~!$&'()*+,;=:@"


class Transport:
    """Sends requests to one server from any thread.

    Parameters
    ----------
    endpoint
        The server's address, ``http`` or ``https``, with an optional base path, and the headers of its key.
    timeout
        Seconds that a request may take from its first byte to the answer's last, unless it brings its own.

    Raises
    ------
    SpecError
        The address has no scheme or host that can be used, or a header holds a line break.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.url = endpoint.url
        self.timeout = timeout
        self._address, self._tls, self._base = parse_url(endpoint.url)
        host = urlsplit(endpoint.url).netloc
        self._headers = header_lines({"Host": host, **endpoint.headers})
        self._local = threading.local()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def request(
        self,
        method: str,
        path: str,
        body: Sequence[bytes | memoryview] = (),
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Parameters
        ----------
        method
            ``GET`` or ``POST``.
        path
            Below the server's base path, without a leading slash, already quoted.
        body
            In parts, which are not copied together.
        headers
            Beside the endpoint's own.
        timeout
            Seconds for all of it, None for the transport's own.

        Raises
        ------
        ServerUnreachableError
            Nothing listens, the connection broke, the time ran out, or the transport is closed.
        ServerError
            What answers does not speak HTTP/1.
        """
        seconds = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        length = sum(len(part) for part in body)
        head = (
            f"{method} {self._base}/{path} HTTP/1.1\r\n{self._headers}"
            f"{header_lines(headers) if headers else ''}Content-Length: {length}\r\n\r\n"
        ).encode()
        try:
            return self._exchange([head, *body], deadline)
        except OSError as error:
            self._explain(error, method, path, seconds)

    def close(self) -> None:
        """Close the connections of all threads; a request that waits in another thread ends with an error."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for connection in connections:
            connection.shut()

    def _exchange(self, parts: Sequence[bytes | memoryview], deadline: float) -> Answer:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.usable():
            try:
                return self._ask(connection, parts, deadline)
            except ClosedBeforeAnswerError:
                # The server had closed an idle connection just then: the request was never begun there.
                pass
        return self._ask(self._connect(deadline), parts, deadline)

    def _ask(self, connection: Connection, parts: Sequence[bytes | memoryview], deadline: float) -> Answer:
        try:
            answer = connection.ask(parts, deadline)
        except BaseException:  # KeyboardInterrupt too: the answer may still come, and nobody must read it
            connection.close()
            raise
        if connection.spent or self._closed:
            connection.close()
        return answer

    def _connect(self, deadline: float) -> Connection:
        if self._closed:
            raise _TransportClosedError
        connection = Connection(self._address, self._tls, deadline)
        with self._lock:
            self._connections.add(connection)
        self._local.connection = connection
        return connection

    def _explain(self, error: OSError, method: str, path: str, seconds: float) -> NoReturn:
        hint = "check that the server runs, and that host and port of the URL are right."
        if self._closed:
            message, hint = f"the client of {self.url} is closed.", "deploy or connect again."
        elif isinstance(error, ConnectionRefusedError):
            message = f"nothing listens at {self.url}."
        elif isinstance(error, socket.gaierror):
            message = f"the host of {self.url} is not known: {error.strerror}."
        elif isinstance(error, TimeoutError):
            message = f"{self.url} did not answer {method} /{path} within {seconds:g} s."
            hint = "the server's log may say what it is busy with; a slow model needs a longer timeout."
        elif type(error).__module__ == "ssl":
            message = f"no TLS connection to {self.url}: {error}."
            hint = (
                "see whether the URL should begin with http://; a certificate authority of your own is made known by"
                " the environment variable SSL_CERT_FILE."
            )
        else:
            message = f"the connection to {self.url} broke: {error}."
        raise ServerUnreachableError(message, hint=hint) from error


class _TransportClosedError(ConnectionError):
    """The transport was closed by its owner."""


def parse_url(url: str) -> tuple[tuple[str, int], ssl.SSLContext | None, str]:
    """Return the host and port of a server's address, how to encrypt if so, and its quoted base path."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as the resolver does, but with an error of its own kind
    except ValueError as error:
        raise SpecError(f"{url!r} is not the address of a server: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise SpecError(
            f"{url!r} is not the address of a server.",
            hint="it reads http://HOST:PORT or https://HOST/BASE; a key goes into the headers.",
        )
    context = None
    if parts.scheme == "https":
        import ssl  # noqa: PLC0415  (the embedded server needs none)

        context = ssl.create_default_context()
    default = 80 if context is None else 443
    return (
        (parts.hostname, default if port is None else port),
        context,
        quote(parts.path.rstrip("/"), safe=PATH_SAFE),
    )


def header_lines(headers: Mapping[str, str]) -> str:
    """Return the lines of HTTP headers; a `SpecError` where one holds what could end a line."""
    for name, value in headers.items():
        if not ((name + value).isascii() and (name + value).isprintable()):
            raise SpecError(f"the header {name!r} holds something other than printable ASCII.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
