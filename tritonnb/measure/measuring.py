"""One point of a sweep: load is sent until its windows agree, and what they hold becomes a `Point`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from tritonnb.measure import generator
from tritonnb.measure.point import ClientSide, Point, Stability
from tritonnb.measure.running import BEGIN, END, KIND, LATE, RunningLoad
from tritonnb.measure.server_side import executed_batches, gpus_between, server_times
from tritonnb.measure.stability import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.load import Load
    from tritonnb.measure.running import Records
    from tritonnb.measure.server_side import Counters, Snapshot
    from tritonnb.measure.stability import Rule

_LOOK_EVERY_S = 0.05
#: A server from which nothing but broken connections has come for so long is gone.
_GONE_AFTER_S = 1.0
#: A window in which too few requests end, and the warm-up, go on for so many times their length.
_LONGEST = 10

_LATE_NS = 1_000_000
_LATE_SHARE = 0.01  # perf_analyzer's limit for requests that were delayed
_BUSY_SHARE = 0.9
_NS = 1e9

_NO_ANSWER = (generator.BROKEN, generator.UNREACHABLE, generator.GRPC_UNAVAILABLE)


@dataclass(frozen=True)
class _Moment:
    """What the counters say where one window ends and the next begins."""

    at_ns: int
    server: Snapshot | None
    client_cpu_s: float
    machine_busy_s: float


@dataclass(frozen=True)
class _Stretch(Window):
    """A window with all that was seen in it."""

    records: Records
    begin: _Moment
    end: _Moment


class PointMeasurement:
    """Measures one point.

    Parameters
    ----------
    endpoint
        The server.
    side
        Its own account.
    load
        What is sent.
    requests
        The requests' bytes, sent in turn.
    rule
        When it is enough.
    about
        Fields of the `Point` that are known beforehand.
    tick
        Called again and again while it waits.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        side: Counters,
        load: Load,
        requests: Sequence[bytes],
        rule: Rule,
        about: Mapping[str, Any],
        tick: Callable[[], None],
    ) -> None:
        self._side = side
        self._load = load
        self._rule = rule
        self._about = about
        self._tick = tick
        self._running = RunningLoad(endpoint, load, requests)
        self._windows: list[_Stretch] = []
        self._heard_at = time.monotonic()
        self._lost = 0  # how a connection was, since then
        self.gone = ""  # why the server is taken to be

    def run(self, warm_up_s: float, within_s: float, on_window: Callable[[Point], None] | None = None) -> None:
        """Send load until the windows agree, the time is over or the server is gone.

        Parameters
        ----------
        warm_up_s
            Seconds that do not count, before the first window.
        within_s
            No further window begins after so many seconds, and of a fixed number of requests no further one counts.
        on_window
            Called with the point as it stands after each window.
        """
        deadline = time.monotonic() + within_s
        # Of a fixed number of requests all come after it.
        before = self._side.look() if self._load.requests else None
        with self._running:
            if self._load.requests:
                self._window(self._moment(before), deadline, until_ended=True)
                return
            self._warm_up(warm_up_s)
            begin = self._moment()
            while not self.gone and self._go_on(deadline):
                begin = self._window(begin, deadline)
                if on_window and self._windows:
                    on_window(self.point())
            while self.gone and self._windows and not len(self._windows[-1].latencies_ns):
                self._windows.pop()  # of a server that was gone already

    def _go_on(self, deadline: float) -> bool:
        if not self._windows:
            return True
        last = self._windows[-1]
        if not len(last.latencies_ns) and not np.isin(last.records[:, KIND], _NO_ANSWER).any():
            return False  # no answer, or errors alone: nothing is going to be stable
        return (
            not self._rule.stable(self._windows)
            and len(self._windows) < self._rule.max_windows
            and time.monotonic() < deadline
        )

    def _warm_up(self, seconds: float) -> None:
        began, answers = time.monotonic(), 0
        longest = max(_LONGEST * seconds, self._load.timeout_s + _GONE_AFTER_S)
        enough = 1 if self._load.rate else min(self._load.concurrency, self._rule.min_requests)
        while not self.gone and (passed := time.monotonic() - began) < longest:
            if passed >= seconds and answers >= enough:
                return
            answers += len(self._read())

    def _window(self, begin: _Moment, deadline: float, *, until_ended: bool = False) -> _Moment:
        parts: list[Records] = []
        try:
            self._fill(parts, deadline, until_ended=until_ended)
        except KeyboardInterrupt:
            if until_ended and any(map(len, parts)):
                self._close(begin, parts, until_ended=True)
            raise
        return self._close(begin, parts, until_ended=until_ended)

    def _fill(self, parts: list[Records], deadline: float, *, until_ended: bool) -> None:
        """Read what ends until it makes a window."""
        began = time.monotonic()
        longest = _LONGEST * self._rule.interval_s
        answers = 0
        while not self.gone:
            parts.append(self._read())
            answers += len(parts[-1])
            passed = time.monotonic() - began
            if until_ended:
                if (self._running.ended and not len(parts[-1])) or time.monotonic() >= deadline:
                    return
            elif passed >= self._rule.interval_s and (
                answers >= self._rule.min_requests
                or (answers and (passed >= longest or time.monotonic() >= deadline))
                or passed >= longest + self._load.timeout_s
            ):
                return

    def _close(self, begin: _Moment, parts: Sequence[Records], *, until_ended: bool) -> _Moment:
        """Keep what was read as a window, and return its end."""
        end = self._moment()
        records = np.concatenate(parts)
        if until_ended and len(records):
            duration = int(records[:, END].max() - records[:, BEGIN].min())
        else:
            duration = end.at_ns - begin.at_ns
        if not self.gone or (until_ended and len(records)):
            well = records[records[:, KIND] == generator.OK]
            self._windows.append(_Stretch(duration / _NS, well[:, END] - well[:, BEGIN], records, begin, end))
        return end

    def _read(self) -> Records:
        """Wait a moment and return what has ended meanwhile."""
        time.sleep(_LOOK_EVERY_S)
        self._tick()
        records = self._running.read()
        now = time.monotonic()
        failed = records[records[:, KIND] != generator.OK, KIND]
        lost = failed[np.isin(failed, _NO_ANSWER)]
        if len(lost) < len(records):
            self._heard_at, self._lost = now, 0
        if len(lost):
            self._lost = int(lost[-1])
        if self._lost and now - self._heard_at > _GONE_AFTER_S:
            self.gone = self._running.error_name(self._lost)
        return records

    def _moment(self, server: Snapshot | None = None) -> _Moment:
        at = time.perf_counter_ns()
        busy = psutil.cpu_times()
        busy_s = sum(busy) - busy.idle - getattr(busy, "iowait", 0)
        return _Moment(at, server or self._side.look(), self._running.cpu_s(), busy_s)

    def point(self) -> Point:
        """Return what the last windows hold together."""
        windows = list(self._rule.last(self._windows))
        duration = sum(window.duration_s for window in windows)
        latencies = np.concatenate([window.latencies_ns for window in windows])
        records = np.concatenate([window.records for window in windows])
        begin, end = windows[0].begin, windows[-1].end
        stability = None
        if not self._load.requests:
            stability = Stability(
                self._rule.stable(self._windows), len(self._windows), *self._rule.spreads(self._windows)
            )
        counts = Counter(records[records[:, KIND] != generator.OK, KIND].tolist())
        server: dict[str, Any] = {}
        if begin.server and end.server:
            server["server"] = server_times(begin.server, end.server)
            server["executed_batches"] = executed_batches(begin.server, end.server)
            server["gpus"] = gpus_between([m.server for w in windows for m in (w.begin, w.end) if m.server])
            if begin.server.cpu_s is not None and end.server.cpu_s is not None:
                server["server_cpu_s"] = end.server.cpu_s - begin.server.cpu_s
                passed = (end.at_ns - begin.at_ns) / _NS * (psutil.cpu_count() or 1)
                server["machine_cpu_share"] = min(1.0, (end.machine_busy_s - begin.machine_busy_s) / passed)
        point = Point.from_latencies(
            latencies,
            duration_s=duration,
            errors={self._running.error_name(kind): count for kind, count in counts.most_common()},
            stability=stability,
            client=self._client_side(records, begin, end),
            **server,
            **self._about,
        )
        return _with_warnings(point, self._rule, self._load)

    def _client_side(self, records: Records, begin: _Moment, end: _Moment) -> ClientSide:
        cpu = max(0.0, end.client_cpu_s - begin.client_cpu_s)
        idle = 1 - cpu / ((end.at_ns - begin.at_ns) / _NS)
        late = records[:, LATE] if len(records) else np.zeros(1)
        return ClientSide(
            min(1.0, max(0.0, idle)),
            float(late.mean()) / 1e3,
            float(late.max()) / 1e3,
            float((late > _LATE_NS).mean()),
            cpu,
        )

    @property
    def measured(self) -> bool:
        """Whether there is a window to make a point of."""
        return bool(self._windows)


def _with_warnings(point: Point, rule: Rule, load: Load) -> Point:
    warnings = []
    answered = point.requests + point.failed
    if load.requests and answered < load.requests:
        warnings.append(f"only {answered} of the {load.requests} requests were sent")
    if point.stability and not point.stability.stable and point.latency:
        count = point.stability.windows
        spread = max(point.stability.throughput_spread, point.stability.latency_spread)
        warnings.append(
            f"not stable: only {count} of the {rule.windows} windows that must agree could be measured"
            if count < rule.windows
            else f"not stable after {count} windows: "
            f"the last ones differ by {spread:.0%}, more than {rule.tolerance:.0%}"
        )
    if point.failed:
        share = point.failed / answered
        first = next(iter(point.errors))
        warnings.append(f"{share:.0%} of the requests failed ({first})")
    elif not point.requests:
        warnings.append("no request was answered")
    client = point.client
    if client and point.latency:
        if client.idle_share < 1 - _BUSY_SHARE:
            warnings.append("the load generator was busy all the time: the server may be able to do more")
        if point.request_rate and client.delayed_share > _LATE_SHARE:
            warnings.append(
                f"the load generator could not keep up: {client.delayed_share:.0%} of the requests were sent over "
                "1 ms late"
            )
    return replace(point, warnings=tuple(warnings))
