"""One HTTP/1.1 connection over a plain socket.

A plain socket because every inference pays for this floor: ``http.client`` is slower than tritonclient, whose
gevent in turn must not be used from two threads.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonnb.errors import ServerError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence

    from _typeshed import ReadableBuffer

_CHUNK = 1 << 16
_PARTS = 512  # Linux takes at most 1024 at once
_TIMEVAL = struct.Struct("ll")
_OK, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole.

    Parameters
    ----------
    status
        The status code.
    headers
        By lower-case name; not to be changed, since the next answer may share them.
    body
        Exactly as long as the server said it would be.
    """

    status: int
    headers: dict[str, str]
    body: bytearray


class ClosedBeforeAnswerError(ConnectionError):
    """The server closed the connection before the first byte of an answer."""


class Connection:
    """One connection: a request at a time, in one thread."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None, deadline: float) -> None:
        self._process = os.getpid()
        self._deadline = deadline
        self._arrived = bytearray(_CHUNK)  # what the last look at the socket brought
        self._received = bytearray()  # what came of an answer and is not read yet
        # Most answers begin as the one before did.
        self._usual_head = b""
        self._usual: tuple[int, dict[str, str]] = (0, {})
        self.spent = False
        self._socket = socket.create_connection(address, self._remaining())
        self._encrypted = tls is not None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])
        except BaseException:
            self._socket.close()
            raise
        # The kernel's own timeouts spare Python's ioctl and poll at every step, but not TLS nor gevent's sockets.
        self._kernel_waits = tls is None and isinstance(self._socket, _socket.socket)
        self._waits_s = 0.0
        if self._kernel_waits:
            self._socket.settimeout(None)
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)

    def __del__(self) -> None:
        # A thread that ended leaves its connection behind.
        sock = getattr(self, "_socket", None)
        if sock is not None:
            sock.close()

    def usable(self) -> bool:
        """Tell whether a new request may be sent here."""
        if self.spent or self._process != os.getpid():  # after a fork both would read each other's answers
            return False
        # Idle and yet readable: the server closed it, or sent what nobody asked for. TLS sends tickets unasked.
        if not self._encrypted and self._readable.poll(0):
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close it for good."""
        self.spent = True
        self._socket.close()

    def shut(self) -> None:
        """Close it from another thread, which first wakes the thread that waits on it."""
        if self._process == os.getpid():  # a forked child must not end its parent's connection
            with contextlib.suppress(OSError):  # already closed by the server or by its own thread
                self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def ask(self, parts: Sequence[ReadableBuffer], size: int, deadline: float) -> Answer:
        """Send a request, whose parts have ``size`` bytes together, and read its answer."""
        self.send(parts, size, deadline)
        return self.receive(deadline)

    def send(self, parts: Sequence[ReadableBuffer], size: int, deadline: float) -> None:
        """Send a request; a failure that `receive` will see too is left to it."""
        self._deadline = deadline
        try:
            self._limit()
            sent = 0 if self._encrypted else self._socket.sendmsg(parts[:_PARTS])
            if sent < size:
                self._send_rest(parts, sent)
        except TimeoutError:
            raise
        except BlockingIOError as error:
            raise TimeoutError from error
        except OSError:
            pass  # a server that refuses a request early may have said why before it closed

    def receive(self, deadline: float) -> Answer:
        """Read the answer to the request that was sent."""
        self._deadline = deadline
        try:
            status, headers = self._read_final_head()
            body = self._read_body(status, headers)
        except BlockingIOError as error:  # the kernel's word for a timeout
            raise TimeoutError from error
        if self._received or "close" in headers.get("connection", "").lower():
            self.spent = True
        return Answer(status, headers, body)

    def receive_in_pieces(self, wait_s: float) -> tuple[int, Iterator[bytearray]]:
        """Read the beginning of the answer, and return its status and the pieces of its body as they come.

        This connection is not to be used again.

        Parameters
        ----------
        wait_s
            How long each piece may take, in seconds.
        """
        self._deadline = time.monotonic() + wait_s
        try:
            status, headers = self._read_final_head()
        except BlockingIOError as error:
            raise TimeoutError from error
        return status, self._pieces(status, headers, wait_s)

    def _pieces(self, status: int, headers: Mapping[str, str], wait_s: float) -> Iterator[bytearray]:
        try:
            if not _is_chunked(headers):
                yield self._read_body(status, headers)
                return
            while chunk := self._read_chunk():
                yield chunk
                self._deadline = time.monotonic() + wait_s
        except BlockingIOError as error:
            raise TimeoutError from error

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when an answer comes."""
        return self._socket.fileno()

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return remaining

    def _limit(self) -> None:
        """Let the next step on the socket take no longer than the deadline allows, give or take a hundredth."""
        remaining = self._remaining()
        if not self._kernel_waits:
            self._socket.settimeout(remaining)
        elif not remaining <= self._waits_s <= remaining * 1.01:
            self._waits_s = remaining * 1.005
            timeval = _TIMEVAL.pack(int(self._waits_s), int(self._waits_s % 1 * 1e6) or 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def _send_rest(self, parts: Sequence[ReadableBuffer], sent: int) -> None:
        if self._encrypted:
            self._socket.sendall(b"".join(parts))
            return
        waiting = [view.cast("B") for part in parts if (view := memoryview(part)).nbytes]
        while True:
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.pop(0))
            if not waiting:
                return
            waiting[0] = waiting[0][sent:]
            self._limit()
            sent = self._socket.sendmsg(waiting[:_PARTS])

    def _receive(self) -> memoryview:
        self._limit()
        count = self._socket.recv_into(self._arrived)
        return memoryview(self._arrived)[:count]

    def _read_more(self) -> None:
        data = self._receive()
        if not data:
            raise ConnectionError("the server closed it in the middle of an answer")
        self._received += data

    def _read_head(self) -> tuple[int, dict[str, str]]:
        if not self._received:
            try:
                self._received += self._receive()
            except (TimeoutError, BlockingIOError):
                raise
            except OSError as error:
                raise ClosedBeforeAnswerError(str(error)) from error
            if not self._received:
                raise ClosedBeforeAnswerError("the server closed it before it answered")
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not b"HTTP/1.".startswith(self._received[:7]) or len(self._received) > _CHUNK:
                raise _not_http(self._received)
            self._read_more()
        head = bytes(self._received[: end + 4])
        del self._received[: end + 4]
        if head != self._usual_head:
            self._usual_head, self._usual = head, _parse_head(head)
        return self._usual

    def _read_final_head(self) -> tuple[int, dict[str, str]]:
        status, headers = self._read_head()
        while status < _OK:  # 100 Continue, 103 Early Hints: the answer follows
            status, headers = self._read_head()
        return status, headers

    def _read_body(self, status: int, headers: Mapping[str, str]) -> bytearray:
        if status in (_NO_CONTENT, _NOT_MODIFIED):
            return bytearray()
        if _is_chunked(headers):
            body = bytearray()
            while chunk := self._read_chunk():
                body += chunk
            return body
        length = headers.get("content-length")
        if length is None:
            return self._read_to_end()
        if not (length.isascii() and length.isdigit()):
            raise _bad_framing(f"its Content-Length is {length!r}")
        return self._read_exactly(int(length))

    def _read_exactly(self, length: int) -> bytearray:
        if len(self._received) == length:
            body, self._received = self._received, bytearray()
            return body
        try:
            body = bytearray(length)
        except (MemoryError, OverflowError) as error:
            raise _bad_framing(f"it should have {length} bytes, which do not fit into memory") from error
        have = min(length, len(self._received))
        body[:have] = self._received[:have]
        del self._received[:have]
        view = memoryview(body)
        while have < length:
            self._limit()
            count = self._socket.recv_into(view[have:])
            if not count:
                raise ConnectionError(f"the server closed it after {have} of {length} bytes of an answer")
            have += count
        return body

    def _read_line(self) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > _CHUNK:
                raise _bad_framing("a line of it has no end")
            self._read_more()
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    def _read_chunk(self) -> bytearray:
        """Return the next chunk; an empty one is the last."""
        line = self._read_line().partition(b";")[0].strip()
        try:
            size = int(line, 16)
        except ValueError:
            size = -1
        if size < 0:
            raise _bad_framing(f"a chunk's size is {line!r}")
        if size == 0:
            while self._read_line():
                pass  # trailers
            return bytearray()
        chunk = self._read_exactly(size)
        if self._read_line():
            raise _bad_framing("a chunk does not end where it should")
        return chunk

    def _read_to_end(self) -> bytearray:
        self.spent = True
        while data := self._receive():
            self._received += data
        body, self._received = self._received, bytearray()
        return body


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit() and len(code) == 3):  # noqa: PLR2004
        raise _not_http(head)
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(code), headers


def _is_chunked(headers: Mapping[str, str]) -> bool:
    return "chunked" in headers.get("transfer-encoding", "").lower()


def _not_http(seen: bytes | bytearray) -> ServerError:
    return ServerError(
        f"what answers there does not speak HTTP/1: it sent {bytes(seen[:40])!r}.",
        hint="is it Triton's HTTP port? gRPC and metrics have ports of their own.",
    )


def _bad_framing(what: str) -> ServerError:
    return ServerError(f"the server's answer cannot be read: {what}.", hint="see whether a proxy stands between.")
