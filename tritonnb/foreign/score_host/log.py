"""The tier's log: every line says when, which worker, and which request."""

import contextlib
import io
import os
import sys
import threading
import time


class Log:
    """Writes whole lines to a descriptor that all workers append to.

    Parameters
    ----------
    descriptor
        Where to.
    worker
        The worker's number.
    """

    def __init__(self, descriptor: int, worker: int) -> None:
        self._descriptor = descriptor
        self._worker = worker
        self._thread = threading.local()
        self._second = (0, "")

    @property
    def request_id(self) -> str:
        """The request that the calling thread works for; ``-`` outside one."""
        return getattr(self._thread, "request_id", "-")

    @request_id.setter
    def request_id(self, request_id: str) -> None:
        self._thread.request_id = request_id

    def write(self, text: str, request_id: str | None = None) -> None:
        """Write one line or several, all of them with the same stamp."""
        now = time.time()
        second = int(now)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        stamp = (
            f"{self._second[1]}.{int(now % 1 * 1000):03d}Z [worker {self._worker}] [{request_id or self.request_id}] "
        )
        lines = stamp + text.rstrip("\n").replace("\n", f"\n{stamp}") + "\n"
        with contextlib.suppress(OSError):  # a full disk fails no request
            os.write(self._descriptor, lines.encode(errors="backslashreplace"))


class LogStream(io.TextIOBase):
    """Stands for ``sys.stdout`` and ``sys.stderr`` of a script: what it prints becomes lines of the log.

    Parameters
    ----------
    log
        The log.
    stream
        The stream that it stands for: its descriptor and its bytes stay reachable.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, log: Log, stream) -> None:
        self._log = log
        self._stream = stream
        self._thread = threading.local()

    @property
    def buffer(self):
        """The stream of bytes below; what is written to it goes to the log without a stamp."""
        return self._stream.buffer

    def fileno(self):
        """Return the descriptor below."""
        return self._stream.fileno()

    def writable(self):
        """Tell that it can be written to."""
        return True

    def write(self, text):
        """Take text, and write the lines that are whole."""
        whole, newline, rest = (getattr(self._thread, "begun", "") + text).rpartition("\n")
        self._thread.begun = rest
        if newline:
            self._log.write(whole)
        return len(text)

    def end_line(self):
        """Write a line that was begun, so that it does not become part of the next request's."""
        if begun := getattr(self._thread, "begun", ""):
            self._thread.begun = ""
            self._log.write(begun)


def take_prints(log: Log) -> tuple[LogStream, LogStream]:
    """Lead what the script prints, and what of its logging goes to the console, into the log."""
    sys.stdout, sys.stderr = streams = (LogStream(log, sys.stdout), LogStream(log, sys.stderr))
    return streams
