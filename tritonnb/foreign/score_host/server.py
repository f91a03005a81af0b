"""The event loop of a worker: uvicorn on the master's socket."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .together import Together

if TYPE_CHECKING:
    import socket

HEAD_MOST = 1 << 19  # bytes; one read, which may hold the end of another request, is half of it
KEEP_ALIVE_S = 75  # how long a connection may be idle
LET_OTHERS_S = 0.001  # head start of workers with fewer connections
LOOK_S = 0.02
TRY_AGAIN_S = 0.1  # after a connection could not be accepted


class Protocol(HttpToolsProtocol):
    """HTTP whose requests cannot begin without end: httptools keeps whatever it is sent of a first line and headers."""

    _head = 0.0  # bytes of the first line and headers so far

    def connection_made(self, transport):
        """Begin with a connection."""
        super().connection_made(Together(transport))

    def on_response_complete(self):
        """Send the answer to a HEAD, too, which has no body."""
        self.transport.flush()
        super().on_response_complete()

    def data_received(self, data):
        """Count what comes until the headers are complete."""
        super().data_received(data)
        self._head += len(data)
        if self._head > HEAD_MOST and not self.transport.is_closing():
            self.send_400_response(f"The request's first line and headers are larger than {HEAD_MOST} bytes.")

    def on_message_begin(self):
        """Count from here."""
        self._head = 0.0
        super().on_message_begin()

    def on_headers_complete(self):
        """Count no more."""
        self._head = -math.inf
        super().on_headers_complete()


class Server(uvicorn.Server):
    """A server that takes connections when it is told to, one at a time, and leaves without dropping any.

    uvicorn's own way to accept takes all that wait at once, so that one of several workers can get every connection,
    and its way to leave closes kept connections on which a request may be on its way.

    Parameters
    ----------
    app
        The application.
    listener
        The socket that all workers accept from.
    board
        How many connections each worker has: two cells for each, the first of them its count.
    slot
        Which of them is this worker's.
    """

    def __init__(self, app, listener: socket.socket, board: memoryview, slot: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                lifespan="off",
                ws="none",
                proxy_headers=False,  # there is no proxy, and X-Forwarded-For is for the script to read
                access_log=False,
                log_config=None,
                server_header=False,
                headers=[("server", "tritonnb")],
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self._listener = listener
        self._board = board
        self._slot = slot
        self._loop: asyncio.AbstractEventLoop
        self._accepting = False
        self._arrivals: set[asyncio.Task] = set()
        self._leave = asyncio.Event()

    async def main_loop(self):
        """Keep the Date header fresh until it is time to leave; tell how many connections there are."""
        self._loop = asyncio.get_running_loop()
        while not self._leave.is_set():
            await self.on_tick(0)
            self._tell()
            try:
                await asyncio.wait_for(self._leave.wait(), 1)
            except TimeoutError:
                continue

    def accept(self) -> None:
        """Take connections from now on."""
        self._accepting = True
        self._loop = asyncio.get_running_loop()
        self._tell()
        self._loop.add_reader(self._listener.fileno(), self._arrived)

    def leave(self) -> None:
        """Take no more connections."""
        self._accepting = False
        self._board[2 * self._slot] = math.inf
        self._loop.remove_reader(self._listener.fileno())

    async def end(self, idle_s: float) -> None:
        """End when every connection has ended; idle ones are closed after a while.

        A client may just be sending on an idle connection; with the answer it learns that the connection ends.
        """
        close_at = time.monotonic() + idle_s
        while self.server_state.connections or self._arrivals:
            if time.monotonic() >= close_at:
                for connection in list(self.server_state.connections):
                    connection.shutdown()  # a busy one ends with its answer
            await asyncio.sleep(LOOK_S)
        self._leave.set()

    def _tell(self) -> None:
        if self._accepting:
            self._board[2 * self._slot] = len(self.server_state.connections) + len(self._arrivals)

    def _arrived(self) -> None:
        self._tell()
        mine = self._board[2 * self._slot]
        if any(other < mine for other in self._board[::2]):
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(LET_OTHERS_S, self._take)
        else:
            self._take()

    def _take(self) -> None:
        if not self._accepting:
            return
        self._loop.add_reader(self._listener.fileno(), self._arrived)
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:  # another worker was faster
            return
        except OSError:  # most likely too many open files
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(TRY_AGAIN_S, self._take)
            return
        connection.settimeout(0)
        arrival = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)
        self._tell()

    def _protocol(self):
        return Protocol(config=self.config, server_state=self.server_state, app_state={}, _loop=self._loop)
