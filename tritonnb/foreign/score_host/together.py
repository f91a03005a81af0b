"""An answer's headers and body in one system call and one packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Together:
    """A transport that holds an answer's headers back until its body comes.

    uvicorn 0.54 writes them apart, so that most clients are woken twice for one answer.

    Parameters
    ----------
    transport
        The transport of the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._send = transport.write
        self._headers = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send data with the headers that are held back; hold them where these are some."""
        if self._headers:
            self._send(self._headers + data)
            self._headers = b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and data != CONTINUE:
            self._headers = data
        else:
            self._send(data)

    def flush(self) -> None:
        """Send headers that no body follows."""
        if self._headers:
            self.write(b"")

    def close(self) -> None:
        """Send what is held back, and end the connection."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)
