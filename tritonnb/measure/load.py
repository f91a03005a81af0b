"""What load is sent: how many requests at a time, or how many per second."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from typing import Any

from tritonnb.errors import SpecError, nearest

PROTOCOLS = ("http", "grpc")
ARRIVALS = ("constant", "poisson")

#: Descriptors that a process needs beside its connections.
_OWN_DESCRIPTORS = 50
_LEAST, _MOST, _MOST_REQUESTS = 1e-3, 1e6, 1e8


def check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Raise a `SpecError` unless a value is a number, or a whole one, from ``low`` to ``high``."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise SpecError(f"{name} is {value!r}.", hint=f"it is a {kind} from {low:g} to {high:g}.")


@dataclass(frozen=True)
class Load:
    """A load on one model.

    Parameters
    ----------
    concurrency
        How many requests are outstanding at any time (closed loop).
    rate
        Requests per second, sent whether or not those before were answered (open loop), so that waiting for a slow
        server is measured; None to hold the concurrency.
    arrivals
        At a rate: ``"constant"``, evenly spaced, or ``"poisson"``, as independent callers send.
    requests
        Send so many and end; None to go on until the measurement is stable.
    protocol
        ``"http"`` or ``"grpc"``.
    timeout_s
        Seconds after which a request counts as failed.
    connections
        At a rate: how many requests can be outstanding at once; those beyond wait, and their waiting counts.

    Raises
    ------
    SpecError
        A value that cannot be sent.
    """

    concurrency: int = 1
    rate: float | None = None
    arrivals: str = "constant"
    requests: int | None = None
    protocol: str = "http"
    timeout_s: float = 60.0
    connections: int = 256

    def __post_init__(self) -> None:
        check_number("concurrency", self.concurrency, 1, _MOST, whole=True)
        check_number("connections", self.connections, 1, _MOST, whole=True)
        check_number("timeout_s", self.timeout_s, _LEAST, _MOST)
        if self.rate is not None:
            check_number("rate", self.rate, _LEAST, _MOST)
        if self.requests is not None:
            check_number("requests", self.requests, 1, _MOST_REQUESTS, whole=True)
        for name, value, known in (("protocol", self.protocol, PROTOCOLS), ("arrivals", self.arrivals, ARRIVALS)):
            if value not in known:
                raise SpecError(f"{name} is {value!r}.", hint=nearest(str(value), known))
        _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = math.inf if most_files == resource.RLIM_INFINITY else most_files - _OWN_DESCRIPTORS
        if self.outstanding > room:
            raise SpecError(
                f"{self.outstanding} requests at a time need as many connections, and this process may have {room:g}.",
                hint="ask for fewer, or raise the limit of open files (`ulimit -n`) before Jupyter is started.",
            )

    @property
    def outstanding(self) -> int:
        """The most requests that are under way at once."""
        return self.connections if self.rate else self.concurrency

    def __str__(self) -> str:
        if self.rate:
            return f"{self.rate:g} requests/s ({self.arrivals})"
        return f"concurrency {self.concurrency}"
