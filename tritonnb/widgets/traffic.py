"""What a server did in the last minutes, from its statistics: they only ever count up, so two looks give a rate."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: How far back the history goes, and over how long the numbers shown are taken, in seconds.
HISTORY_S = 300.0
WINDOW_S = 60.0
#: The width of a bar of the history, in seconds.
STEP_S = 5.0


@dataclass(frozen=True)
class Traffic:
    """What one model, or all together, did in a span of time.

    Parameters
    ----------
    requests_per_s, failures_per_s
        Requests that ended, well or not, and those of them that failed.
    queue_ms, latency_ms
        Mean time in the queue, and in the server altogether, of the requests that succeeded; None without any.
    """

    requests_per_s: float = 0.0
    failures_per_s: float = 0.0
    queue_ms: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class _Totals:
    """A model's counters at one look."""

    done: int = 0
    failed: int = 0
    queue_ns: int = 0
    total_ns: int = 0

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> _Totals:
        spent = entry.get("inference_stats", {})

        def said(part: str, what: str) -> int:
            return int(spent.get(part, {}).get(what, 0))

        return cls(said("success", "count"), said("fail", "count"), said("queue", "ns"), said("success", "ns"))

    def since(self, earlier: _Totals) -> _Totals:
        """Return what was added; all of it where the model was loaded anew in between and counts from zero again."""
        if self.done < earlier.done or self.failed < earlier.failed:
            return self
        return _Totals(
            self.done - earlier.done,
            self.failed - earlier.failed,
            self.queue_ns - earlier.queue_ns,
            self.total_ns - earlier.total_ns,
        )

    def __add__(self, other: _Totals) -> _Totals:
        return _Totals(
            self.done + other.done,
            self.failed + other.failed,
            self.queue_ns + other.queue_ns,
            self.total_ns + other.total_ns,
        )

    def over(self, seconds: float) -> Traffic:
        """Return it as rates and means."""
        if seconds <= 0:
            return Traffic()
        mean = (lambda ns: ns / self.done / 1e6) if self.done else (lambda _: None)
        return Traffic(
            (self.done + self.failed) / seconds, self.failed / seconds, mean(self.queue_ns), mean(self.total_ns)
        )


class History:
    """The traffic of the last minutes. Not thread-safe: one poller feeds it and reads it."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], _Totals] = {}
        self._last_at: float | None = None
        # What was added between one look and the next: its end, its length, and by model.
        self._spans: deque[tuple[float, float, dict[str, _Totals]]] = deque()

    def add(self, at: float, statistics: Iterable[Mapping[str, Any]]) -> None:
        """Take note of a look at the statistics.

        Parameters
        ----------
        at
            When, in seconds of a monotonic clock.
        statistics
            Triton's, of all models.
        """
        now = {(str(e.get("name", "")), str(e.get("version", ""))): _Totals.of(e) for e in statistics}
        if self._last_at is not None:
            added: dict[str, _Totals] = {}
            for (model, version), totals in now.items():
                # Of a version that was not there a moment ago nothing was counted before.
                new = totals.since(self._last.get((model, version), _Totals()))
                added[model] = added.get(model, _Totals()) + new
            self._spans.append((at, at - self._last_at, added))
        self._last, self._last_at = now, at
        while self._spans and self._spans[0][0] < at - HISTORY_S:
            self._spans.popleft()

    def traffic(self, model: str = "", *, window_s: float = WINDOW_S) -> Traffic:
        """Return what one model, or all together, did in the last seconds."""
        if self._last_at is None:
            return Traffic()
        since = self._last_at - window_s
        return _sum([span for span in self._spans if span[0] > since], model)

    def steps(self) -> list[tuple[float, Traffic]]:
        """Return the history in steps of `STEP_S`: how many seconds ago each ended, and what all models did in it."""
        if self._last_at is None:
            return []
        by_step: dict[int, list[tuple[float, float, dict[str, _Totals]]]] = {}
        for span in self._spans:
            by_step.setdefault(int((self._last_at - span[0]) // STEP_S), []).append(span)
        return [(step * STEP_S, _sum(spans, "")) for step, spans in sorted(by_step.items(), reverse=True)]


def _sum(spans: Sequence[tuple[float, float, Mapping[str, _Totals]]], model: str) -> Traffic:
    total = _Totals()
    for _, _, added in spans:
        for name, totals in added.items():
            if model in ("", name):
                total += totals
    return total.over(sum(seconds for _, seconds, _ in spans))
