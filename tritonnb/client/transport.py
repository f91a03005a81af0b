"""Requests to one server from any thread: a keep-alive connection per thread, errors that say what to do.

A connection that saw any trouble is closed, so no later request can read an answer meant for another.
"""

from __future__ import annotations

import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from tritonnb.client.connection import Answer, ClosedBeforeAnswerError, Connection
from tritonnb.client.paths import PATH_SAFE
from tritonnb.client.streams import Stream
from tritonnb.errors import ServerUnreachableError, SpecError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence

    from _typeshed import ReadableBuffer

    from tritonnb.endpoint import Endpoint


class Message(NamedTuple):
    """A request as it goes over the wire.

    Parameters
    ----------
    what
        Its method and path, for errors.
    parts
        Its bytes: the head, then the body.
    size
        How many they are together.
    """

    what: str
    parts: list[ReadableBuffer]
    size: int


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
        again: bool = True,
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
        again
            Whether it is sent once more, over a new connection, where a kept one was closed before the first byte of
            the answer. It may then have been executed twice.

        Raises
        ------
        ServerUnreachableError
            Nothing listens, the connection broke, the time ran out, or the transport is closed.
        ServerError
            What answers does not speak HTTP/1.
        """
        return self.exchange(self.message(method, path, body, headers), timeout, again=again)

    def message(
        self,
        method: str,
        path: str,
        body: Sequence[bytes | memoryview] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Return a request as it goes over the wire; the parameters are those of `request`."""
        length = sum(len(part) for part in body)
        head = (
            f"{method} {self._base}/{path} HTTP/1.1\r\n{self._headers}"
            f"{header_lines(headers) if headers else ''}Content-Length: {length}\r\n\r\n"
        ).encode()
        return Message(f"{method} /{path}", [head, *body], len(head) + length)

    def exchange(self, message: Message, timeout: float | None = None, *, again: bool = True) -> Answer:
        """Send a message and return the answer to it; the parameters are those of `request`."""
        seconds = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        try:
            connection = self.idle()
            if connection is not None:
                try:
                    return self._ask(connection, message, deadline)
                except ClosedBeforeAnswerError as error:
                    # The server had most likely closed the idle connection just then.
                    if not again:
                        told = f"{error}; the request was not sent again, because it may have been executed"
                        raise ClosedBeforeAnswerError(told) from error
            return self._ask(self.connect(deadline), message, deadline)
        except OSError as error:
            self.explain(error, message, seconds)

    def stream(self, message: Message, timeout: float | None = None) -> tuple[int, Stream[bytearray]]:
        """Send a message over a connection of its own, and return the answer's status and its body as it comes.

        Parameters
        ----------
        message
            Made by `message`.
        timeout
            Seconds that each piece of the answer may take, None for the transport's own.

        Raises
        ------
        ServerUnreachableError, ServerError
            As `request` does, and the stream's steps too.
        """
        seconds = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        try:
            connection = self.connect(deadline)
            try:
                connection.send(message.parts, message.size, deadline)
                status, pieces = connection.receive_in_pieces(seconds)
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            self.explain(error, message, seconds)
        return status, Stream(self._explained(pieces, message, seconds), connection.shut)

    def _explained(self, pieces: Iterator[bytearray], message: Message, seconds: float) -> Iterator[bytearray]:
        try:
            yield from pieces
        except OSError as error:
            self.explain(error, message, seconds)

    def close(self) -> None:
        """Close the connections of all threads; a request that waits in another thread ends with an error."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for connection in connections:
            connection.shut()

    def idle(self) -> Connection | None:
        """Return a connection that this thread has used before, and that is not in use; None where there is none.

        It is the caller's alone until it is given back: under gevent, greenlets share a thread.
        """
        kept = self._kept()
        while kept:
            connection = kept.pop()
            if connection.usable():
                return connection
        return None

    def connect(self, deadline: float) -> Connection:
        """Return a new connection."""
        if self._closed:
            raise _TransportClosedError
        connection = Connection(self._address, self._tls, deadline)
        with self._lock:
            self._connections.add(connection)
        return connection

    def keep(self, connection: Connection) -> None:
        """Give a connection back, whose last answer was read whole."""
        if connection.spent or self._closed:
            connection.close()
        else:
            self._kept().append(connection)

    def _kept(self) -> list[Connection]:
        try:
            kept: list[Connection] = self._local.kept
        except AttributeError:
            kept = self._local.kept = []
        return kept

    def _ask(self, connection: Connection, message: Message, deadline: float) -> Answer:
        try:
            answer = connection.ask(message.parts, message.size, deadline)
        except BaseException:  # KeyboardInterrupt too: the answer may still come, and nobody must read it
            connection.close()
            raise
        self.keep(connection)
        return answer

    def explain(self, error: OSError, message: Message, seconds: float) -> NoReturn:
        """Raise what a failed exchange means to a person."""
        hint = "check that the server runs, and that host and port of the URL are right."
        if self._closed:
            text, hint = f"the client of {self.url} is closed.", "deploy or connect again."
        elif isinstance(error, ConnectionRefusedError):
            text = f"nothing listens at {self.url}."
        elif isinstance(error, socket.gaierror):
            text = f"the host of {self.url} is not known: {error.strerror}."
        elif isinstance(error, TimeoutError):
            text = f"{self.url} did not answer {message.what} within {seconds:g} s."
            hint = "the server's log may say what it is busy with; a slow model needs a longer timeout."
        elif type(error).__module__ == "ssl":
            text = f"no TLS connection to {self.url}: {error}."
            hint = (
                "see whether the URL should begin with http://; a certificate authority of your own is made known by"
                " the environment variable SSL_CERT_FILE."
            )
        else:
            text = f"the connection to {self.url} broke: {error}."
        raise ServerUnreachableError(text, hint=hint) from error


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
