"""Sends load to a server and writes down how long every answer took.

Started as a script in an interpreter of its own (``python -I -S generator.py JOB RECORDS``, two descriptors of memory
shared with the parent), with the standard library alone: in the parent's own process other threads and clients would
take their share of the interpreter, and all of it would be counted as the server's.

Blocking threads are the quickest at one and two connections, one epoll loop from three up (``make bench``).
"""

import contextlib
import gc
import itertools
import json
import mmap
import os
import random
import resource
import select
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

#: One request: when its latency begins and ends (ns), how late the generator itself was with it (ns), how it ended,
#: and its number, which begins at one and is written last.
RECORD = struct.Struct("=qqqqq")
#: How a request ended, beside HTTP's status codes and, from `GRPC` up, gRPC's.
OK, BROKEN, TIMEOUT, UNREACHABLE, MALFORMED = 0, -1, -2, -3, -4
GRPC = 1000
GRPC_UNAVAILABLE = GRPC + 14
#: From so many connections up one epoll loop serves them all.
LOOP_FROM = 3

_REST_S = 0.1  # between two attempts to reach a server that cannot be reached
_CHANNELS = 8  # of gRPC, each of which carries many requests at once
_KINDS_TOLD = 32
_TEXT_TOLD = 500
_NS = 1_000_000_000

_SCRATCH = 1 << 20
_clock = time.perf_counter_ns

Record = Callable[[int, int, int, int], None]


class Connection:
    """A keep-alive connection that knows what the usual answer looks like, so that most are checked by comparing.

    What comes is read into ``scratch``, which connections may share that are served by one thread.
    """

    def __init__(self, job: dict[str, Any], tell: Callable[[int, str], None], scratch: bytearray) -> None:
        self._scratch = scratch
        self._view = memoryview(scratch)
        self._job = job
        self._tell = tell
        self._usual_head = b"\0"
        self._usual_length = -1
        self.connected = False
        self.begin = 0
        self.late = 0
        self.free_since = 0
        self.unsent: memoryview | bytes = b""

    def connect(self, *, blocking: bool) -> None:
        """Connect anew; an OSError where that fails."""
        self.connected = False
        timeout = self._job["timeout_s"]
        self.sock = socket.create_connection((self._job["host"], self._job["port"]), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._job["tls"]:
            import ssl  # noqa: PLC0415  (most servers need none)

            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self._job["host"])
        elif blocking:
            # The kernel's timeout, for Python's own polls before each call.
            self.sock.settimeout(None)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(timeout), int(timeout % 1 * 1e6)))
        else:
            self.sock.setblocking(False)  # noqa: FBT003  (the standard library's signature)
        self._receive = self.sock.recv_into
        self._reset()
        self.unsent = b""
        self.closing = False
        self.connected = True
        self.free_since = _clock()

    def close(self) -> None:
        """Close it; what may still come is of no interest."""
        if self.connected:
            self.sock.close()
        self.connected = False

    def receive(self) -> int | None:
        """Take what has come; return how the request ended, or None while some of the answer is missing."""
        count = self._receive(self._scratch)
        if count == self._usual_length and not self._head and self._scratch.startswith(self._usual_head):
            return OK
        return self._take(count)

    def _reset(self) -> None:
        self._head = bytearray()  # of an answer that came in pieces; the chunks too
        self._body = bytearray()  # kept only of an answer that is an error
        self._left = -1  # bytes of the body that are missing; -1: the head is

    def _take(self, count: int) -> int | None:
        if not count:
            raise ConnectionError("the server closed the connection before it had answered")
        if self._left < 0:
            self._head += self._view[:count]
            return self._parse()
        self._left -= count
        if not _well(self._status):
            self._body += self._view[:count]
        return self._complete()

    def _parse(self) -> int | None:
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = bytes(self._head[:end]).lower().split(b"\r\n")
        words = lines[0].split()
        fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
        self.closing = fields.get(b"connection", b"").strip() == b"close"
        try:
            self._status = int(words[1])
            if b"chunked" in fields.get(b"transfer-encoding", b""):
                whole = _unchunked(self._head[end + 4 :])
                if whole is None:
                    return None
                body, length = whole, len(whole)
            else:
                length = int(fields[b"content-length"])
                body = self._head[end + 4 :]
                if _well(self._status) and not self.closing:
                    self._usual_head, self._usual_length = bytes(self._head[: end + 4]), end + 4 + length
        except (IndexError, ValueError, KeyError):
            return self._bad(f"not an answer in HTTP/1 with a length: {bytes(self._head[:80])!r}")
        self._body = body
        self._left = length - len(body)
        return self._complete()

    def _complete(self) -> int | None:
        if self._left > 0:
            return None
        if self._left < 0:
            return self._bad("more came than the answer's length said")
        status, body = self._status, bytes(self._body)
        self._reset()
        if _well(status):
            return OK
        self._tell(status, body.decode(errors="replace"))
        return status

    def _bad(self, text: str) -> int:
        self._tell(MALFORMED, text)
        self._reset()
        self.closing = True  # nobody knows where the next answer would begin
        return MALFORMED


def _well(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004  (HTTP's class of success)


def _unchunked(data: bytearray) -> bytearray | None:
    """Return the body that the chunks hold, or None while some are missing."""
    body, position = bytearray(), 0
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            return None
        size = int(data[position:end].split(b";")[0], 16)
        position = end + 2 + size + 2
        if len(data) < position:
            return None
        if size == 0:
            return body
        body += data[end + 2 : end + 2 + size]


def recorder(descriptor: int) -> Record:
    """Return a function that writes a request's record into the shared memory, round and round."""
    memory = mmap.mmap(descriptor, 0)
    size = RECORD.size
    capacity = len(memory) // size
    numbers = itertools.count()
    pack = RECORD.pack_into

    def record(begin: int, end: int, late: int, kind: int) -> None:
        number = next(numbers)  # one step of the interpreter, so that threads need no lock
        pack(memory, number % capacity * size, begin, end, late, kind, number + 1)

    return record


def teller() -> Callable[[int, str], None]:
    """Return a function that tells the parent the first text of each kind of error."""
    told: set[int] = set()

    def tell(kind: int, text: str) -> None:
        if kind not in told and len(told) < _KINDS_TOLD:
            told.add(kind)
            os.write(1, json.dumps([kind, text[:_TEXT_TOLD]]).encode() + b"\n")

    return tell


def schedule(job: dict[str, Any]) -> Iterator[int]:
    """Yield when each request of an open loop is due, in nanoseconds of the clock."""
    interval = _NS / job["rate"]
    due = float(_clock())
    draw = random.Random(0).expovariate  # noqa: S311  (the same in every run, so that runs can be compared)
    for _ in range(job["limit"]) if job["limit"] else itertools.count():
        due += interval * draw(1.0) if job["poisson"] else interval
        yield int(due)


class Loop:
    """One epoll loop over all connections."""

    def __init__(
        self, job: dict[str, Any], requests: list[bytes], record: Record, tell: Callable[[int, str], None]
    ) -> None:
        self._poller = select.epoll()  # before all sockets: select() takes low descriptors only
        self._timeout_ns = int(job["timeout_s"] * _NS)
        self._next = itertools.cycle(requests).__next__
        self._record = record
        self._tell = tell
        scratch = bytearray(_SCRATCH)
        self._connections = [Connection(job, tell, scratch) for _ in range(job["connections"])]
        self._by_descriptor: dict[int, Connection] = {}
        self._resting: deque[tuple[int, Connection]] = deque()
        self._left = job["limit"] or -1  # of a closed loop's requests; below zero it has no end
        self._looked = _clock()

    def closed(self) -> None:
        """Keep a request outstanding on every connection until all are sent."""
        outstanding = 0

        def again(connection: Connection) -> int:
            while connection.connected and self._left:
                self._left -= 1
                connection.begin = begin = _clock()
                connection.late = begin - connection.free_since
                if self._send(connection):
                    return 1
            return 0

        for connection in self._connections:
            if self._connect(connection):
                outstanding += again(connection)
        while outstanding or self._left:
            for connection in self._answered(0.1):
                outstanding += again(connection) - 1
            for connection in self._rested():
                outstanding += again(connection)

    def _answered(self, wait_s: float) -> Iterator[Connection]:
        """Wait, record the requests that ended, and yield their connections, ready or at rest."""
        events = self._poller.poll(wait_s)
        # What has come by now is taken as having come now, not when its turn comes below.
        now = _clock()
        for descriptor, event in events:
            connection = self._by_descriptor[descriptor]
            try:
                kind = connection.receive() if event == select.EPOLLIN else self._eventful(connection, event)
            except BlockingIOError:
                continue
            except OSError as error:
                kind = self._broken(connection, error)
            if kind is not None and connection.begin:
                yield self._end(connection, now, kind)
        if now - self._looked > _NS // 10:
            self._looked = now
            for connection in self._connections:
                if connection.begin and now - connection.begin > self._timeout_ns:
                    self._tell(TIMEOUT, f"no answer within {self._timeout_ns / _NS:g} s")
                    yield self._end(connection, now, TIMEOUT)

    def _eventful(self, connection: Connection, event: int) -> int | None:
        """Send more of a large request; take what has come, be it the end of the connection."""
        if connection.unsent and event & select.EPOLLOUT:
            self._send_rest(connection)
        return connection.receive() if event & ~select.EPOLLOUT else None

    def _broken(self, connection: Connection, error: OSError) -> int | None:
        if not connection.begin:  # idle, and closed by the server: nobody was waiting
            self._drop(connection)
            self._connect(connection)
            return None
        self._tell(BROKEN, str(error))
        return BROKEN

    def _end(self, connection: Connection, now: int, kind: int) -> Connection:
        now = max(now, connection.begin)
        self._record(connection.begin, now, connection.late, kind)
        connection.begin = 0
        connection.free_since = now
        if kind in {BROKEN, TIMEOUT} or connection.closing or connection.unsent:
            self._drop(connection)
            self._connect(connection)
        return connection

    def _drop(self, connection: Connection) -> None:
        del self._by_descriptor[connection.sock.fileno()]
        connection.close()

    def _connect(self, connection: Connection) -> bool:
        began = _clock()
        try:
            connection.connect(blocking=False)
        except OSError as error:
            self._tell(UNREACHABLE, str(error))
            self._record(began, _clock(), 0, UNREACHABLE)
            self._left -= self._left > 0  # it would have carried a request
            self._resting.append((_clock() + int(_REST_S * _NS), connection))
            return False
        self._by_descriptor[connection.sock.fileno()] = connection
        self._poller.register(connection.sock, select.EPOLLIN)
        return True

    def _rested(self) -> Iterator[Connection]:
        """Yield connections that could be made anew after a rest."""
        while self._resting and self._resting[0][0] <= _clock():
            connection = self._resting.popleft()[1]
            if self._connect(connection):
                yield connection

    def _send(self, connection: Connection) -> bool:
        """Begin to send a request; False where the connection turned out to be broken and was made anew."""
        request = self._next()
        try:
            sent = connection.sock.send(request)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._tell(BROKEN, str(error))
            self._end(connection, _clock(), BROKEN)
            return False
        if sent < len(request):
            connection.unsent = memoryview(request)[sent:]
            self._poller.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        return True

    def _send_rest(self, connection: Connection) -> None:
        connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        if not connection.unsent:
            self._poller.modify(connection.sock, select.EPOLLIN)

    def open(self, dues: Iterator[int]) -> None:
        """Send a request whenever one is due, whatever became of those before it."""
        waiting: deque[int] = deque()  # due, and no connection free: the server's slowness, so it counts
        free = deque(connection for connection in self._connections if self._connect(connection))
        due = next(dues, None)
        outstanding = 0
        while due is not None or waiting or outstanding:
            now = _clock()
            while due is not None and due <= now:
                waiting.append(due)
                due = next(dues, None)
            while waiting and free:
                connection = free.popleft()
                if not connection.connected:
                    continue
                connection.begin = waiting.popleft()
                connection.late = _clock() - max(connection.begin, connection.free_since)
                outstanding += self._send(connection)
                if not connection.begin and connection.connected:
                    free.append(connection)
            wait_s = 0.1 if due is None else min(0.1, max(0, due - _clock()) / _NS)
            # epoll's own timeout counts in whole milliseconds.
            select.select([self._poller], [], [], wait_s)
            for connection in self._answered(0):
                outstanding -= 1
                if connection.connected:
                    free.append(connection)
            free.extend(self._rested())


def threads(
    job: dict[str, Any], requests: list[bytes], record: Record, exchange: Callable[[], Callable[[bytes], int]]
) -> None:
    """Let as many threads as there are connections send, each a request at a time."""
    lock = threading.Lock()
    dues = schedule(job) if job["rate"] else None
    at_once = itertools.repeat(0, job["limit"]) if job["limit"] else itertools.repeat(0)
    following = itertools.cycle(requests).__next__

    def take() -> int | None:
        if dues is None:
            return next(at_once, None)
        with lock:  # a generator cannot be asked by two threads at once
            return next(dues, None)

    def work() -> None:
        ask = exchange()
        free_since = _clock()
        while (due := take()) is not None:
            now = _clock()
            if due > now:
                time.sleep((due - now) / _NS)
                now = _clock()
            late = now - max(due, free_since)
            kind = ask(following())
            free_since = _clock()
            record(due or now, free_since, late, kind)
            if kind in {UNREACHABLE, GRPC_UNAVAILABLE}:
                time.sleep(_REST_S)

    workers = [threading.Thread(target=work) for _ in range(job["connections"])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def http_exchange(job: dict[str, Any], tell: Callable[[int, str], None]) -> Callable[[bytes], int]:
    """Return a function that sends a request over a blocking connection of its own and says how it ended."""
    connection = Connection(job, tell, bytearray(_SCRATCH))

    def connect() -> int:
        try:
            connection.connect(blocking=True)
        except OSError as error:
            tell(UNREACHABLE, str(error))
            return UNREACHABLE
        return OK

    def ask(request: bytes) -> int:
        if not connection.connected and connect() != OK:
            return UNREACHABLE
        try:
            connection.sock.sendall(request)
            while (kind := connection.receive()) is None:
                pass
        except (BlockingIOError, TimeoutError):
            tell(TIMEOUT, f"no answer within {job['timeout_s']:g} s")
            kind = TIMEOUT
        except OSError as error:
            tell(BROKEN, str(error))
            kind = BROKEN
        if kind in {TIMEOUT, BROKEN} or connection.closing:
            connection.close()
        return kind

    connect()
    return ask


def grpc_exchanges(job: dict[str, Any], tell: Callable[[int, str], None]) -> Callable[[], Callable[[bytes], int]]:
    """Return a function that gives each thread one that sends a serialized request and says how it ended."""
    import ssl  # noqa: PLC0415  (as below)

    import grpc  # noqa: PLC0415  (heavy, and only for gRPC)

    # The authorities that are trusted over HTTP; gRPC brings its own.
    trusted = ssl.get_default_verify_paths().cafile
    roots = open(trusted, "rb").read() if trusted else None  # noqa: PTH123, SIM115  (once, in a process that ends)
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    channels = [
        grpc.secure_channel(job["target"], grpc.ssl_channel_credentials(roots), options)
        if job["tls"]
        else grpc.insecure_channel(job["target"], options)
        for _ in range(min(job["connections"], _CHANNELS))
    ]
    turn = itertools.cycle(channels)
    metadata = [tuple(pair) for pair in job["metadata"]]
    timeout = job["timeout_s"]

    def exchange() -> Callable[[bytes], int]:
        call = next(turn).unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def ask(request: bytes) -> int:
            try:
                call(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                kind = GRPC + int(error.code().value[0])
                tell(kind, f"{error.code().name}: {error.details()}")
                return kind
            return OK

        return ask

    return exchange


def watch(parent: int) -> None:
    """End this process as soon as the parent has ended: there is nobody left to tell."""
    descriptor = os.pidfd_open(parent)
    if os.getppid() != parent:  # it ended before; its number may be another's by now
        os._exit(1)

    def wait() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Run the job of the first descriptor, record into the second."""
    with os.fdopen(int(sys.argv[1]), "rb") as shared:
        job = json.loads(shared.readline())
        requests = [shared.read(length) for length in job["lengths"]]
    watch(job["parent"])
    gc.disable()  # nothing here refers to itself, and a collection's pause would be counted as the server's
    record, tell = recorder(int(sys.argv[2])), teller()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # A sleep may then end on time, not 50 us later. (Not pathlib: it takes 5 ms to import.)
    with contextlib.suppress(OSError), open("/proc/self/timerslack_ns", "w") as slack:  # noqa: PTH123
        slack.write("1")
    if job["protocol"] == "grpc":
        sys.path += job["path"]
        threads(job, requests, record, grpc_exchanges(job, tell))
    elif job["tls"] or job["connections"] < LOOP_FROM:
        threads(job, requests, record, lambda: http_exchange(job, tell))
    elif job["rate"]:
        Loop(job, requests, record, tell).open(schedule(job))
    else:
        Loop(job, requests, record, tell).closed()


if __name__ == "__main__":
    main()
