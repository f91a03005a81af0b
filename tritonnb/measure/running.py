"""A load that is being sent: the generator's process, and what it has written down so far."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from tritonnb.client.grpc_address import grpc_address, grpc_metadata
from tritonnb.client.reasons import model_reason
from tritonnb.client.transport import parse_url
from tritonnb.errors import TritonNbError
from tritonnb.measure import generator
from tritonnb.supervise import interrupt_held

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.load import Load

    #: Of shape ``[n, 5]``: the columns of `BEGIN` and the following.
    Records = NDArray[np.int64]

BEGIN, END, LATE, KIND, _NUMBER = range(5)

#: As many records are kept until they are read: over 10 s of the fastest load that was ever sent.
_CAPACITY = 1 << 18
_CHUNK = 1 << 11  # so many are looked at at a time: mostly few are new

_TRANSPORT = {
    generator.BROKEN: "connection broken",
    generator.TIMEOUT: "timeout",
    generator.UNREACHABLE: "not reachable",
    generator.MALFORMED: "malformed answer",
}


class RunningLoad:
    """Sends a load from a process of its own for as long as the ``with`` block lasts.

    The two share memory that has no name, so nothing is left behind however either of them ends.

    Parameters
    ----------
    endpoint
        The server.
    load
        What is sent.
    requests
        The requests, as `wire` builds them, sent in turn.
    """

    def __init__(self, endpoint: Endpoint, load: Load, requests: Sequence[bytes]) -> None:
        self._job = _job(endpoint, load, requests)
        self._requests = requests
        self._read = 0
        self._cpu_s = 0.0
        self._texts: dict[int, str] = {}
        self._said = b""

    def __enter__(self) -> Self:
        with interrupt_held() as pressed:  # else it could come between the process and the knowledge of it
            self._start()
        if pressed:
            self.__exit__(None, None, None)
            raise KeyboardInterrupt
        return self

    def _start(self) -> None:
        job, records = os.memfd_create("tritonnb-job"), os.memfd_create("tritonnb-records")
        try:
            os.ftruncate(records, _CAPACITY * generator.RECORD.size)
            self._ring: Records = np.frombuffer(mmap.mmap(records, 0, prot=mmap.PROT_READ), np.int64).reshape(-1, 5)
            with os.fdopen(os.dup(job), "wb") as shared:
                shared.write(json.dumps(self._job).encode() + b"\n")
                shared.writelines(self._requests)
            os.lseek(job, 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", generator.__file__, str(job), str(records)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(job, records),
                start_new_session=True,  # Ctrl-C is for the parent, which then ends it
            )
        finally:
            os.close(job)
            os.close(records)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()  # all that it has written is in memory that we hold
        self._listen()
        self._process.communicate()

    def read(self) -> Records:
        """Return the requests that ended since the last call, in the order in which they did.

        Raises
        ------
        TritonNbError
            The generator itself failed, or its records were read too seldom, so that some were written over.
        """
        self.cpu_s()
        parts = []
        while True:
            start = self._read % _CAPACITY
            numbers = self._ring[start : start + _CHUNK, _NUMBER]
            wanted = np.arange(self._read + 1, self._read + 1 + len(numbers))
            differ = np.flatnonzero(numbers != wanted)
            count = int(differ[0]) if len(differ) else len(numbers)
            if count < len(numbers) and numbers[count] > wanted[count]:
                raise TritonNbError(
                    "The load generator's records were not read in time and some are lost.",
                    hint="this process was stopped or starved meanwhile: measure again.",
                )
            parts.append(self._ring[start : start + count].copy())
            self._read += count
            if count < len(numbers) or not count:
                break
        self._check()
        return np.concatenate(parts)

    @property
    def ended(self) -> bool:
        """Whether all that was to be sent has been sent and answered."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The generator's process number."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Return the CPU seconds that the generator has taken; after its end, had at the last `read` before."""
        with contextlib.suppress(OSError):
            # The process's CPU clock as clock_getcpuclockid(3) makes it: in nanoseconds, where /proc has 10 ms.
            self._cpu_s = time.clock_gettime(~self._process.pid << 3 | 2)
        return self._cpu_s

    def error_name(self, kind: int) -> str:
        """Return what a kind of error is called, with the first text that was seen of it."""
        self._listen()
        text = self._texts.get(kind, "")
        if kind >= generator.GRPC:
            code, _, details = text.partition(": ")
            return f"gRPC {code}: {_message(details)}"
        text = _message(text)
        name = _TRANSPORT.get(kind) or f"HTTP {kind}"
        return f"{name}: {text}" if text else name

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  (it is a pipe)
        if self._process.stdout.closed:
            return
        descriptor = self._process.stdout.fileno()
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(descriptor, 1 << 16):
                self._said += data
        *lines, self._said = self._said.split(b"\n")
        self._texts |= dict(map(json.loads, lines))

    def _check(self) -> None:
        if self._process.poll():
            assert self._process.stderr is not None  # noqa: S101  (it is a pipe)
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise TritonNbError(
                f"The load generator failed: {said[-1] if said else f'it ended with {self._process.returncode}'}."
            )


def _job(endpoint: Endpoint, load: Load, requests: Sequence[bytes]) -> dict[str, object]:
    if load.protocol == "grpc":
        target, secure = grpc_address(endpoint)
        server = {"target": target, "tls": secure, "metadata": list(grpc_metadata(endpoint).items())}
    else:
        (host, port), tls, _ = parse_url(endpoint.url)
        server = {"host": host, "port": port, "tls": tls is not None}
    return {
        **server,
        "parent": os.getpid(),
        "protocol": load.protocol,
        "connections": load.outstanding,
        "rate": load.rate,
        "poisson": load.arrivals == "poisson",
        "limit": load.requests or 0,
        "timeout_s": load.timeout_s,
        "path": sys.path if load.protocol == "grpc" else [],
        "lengths": [len(request) for request in requests],
    }


def _message(text: str) -> str:
    """Return what Triton's JSON says, or the text as it is, in one line and freed of Triton's wrappings."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"])
    return " ".join(model_reason(text).split())
