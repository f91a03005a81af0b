"""Where the time of one request went: in the client and on the way, in the model's queue, in the model.

The server's part comes from the growth of its statistics, which are all that a v2 server tells of a single request.
They count every client's requests, so what others send meanwhile is told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonnb.render.html import shares_table
from tritonnb.render.text import bar, stable_output, text_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.client.inference import Client
    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import InferResult

_PARTS = {
    "queue": "waiting in the queue",
    "compute_input": "model: inputs",
    "compute_infer": "model: inference",
    "compute_output": "model: outputs",
}
#: The server counts a request just after it has answered it.
_COUNTED_WITHIN_S = 1.0
_ASK_AGAIN_S = 0.002


@dataclass(frozen=True, repr=False)
class Timing:
    """The time of a request, in seconds.

    Parameters
    ----------
    total_s
        From the call to its result, as the client saw it.
    server_s
        Of that, in the server, from the request's arrival in the model's scheduler to its answer.
    parts_s
        Of that, by Triton's names: ``queue``, ``compute_input``, ``compute_infer``, ``compute_output``.
    requests
        How many requests the model answered meanwhile. 1: this one alone. More: the server's times are means over all
        of them. 0: the server counted none (an answer from its cache, or no statistics).
    """

    total_s: float
    server_s: float
    parts_s: Mapping[str, float]
    requests: int

    @property
    def client_s(self) -> float:
        """What was not the model's: encoding, the way there and back, HTTP in the server, decoding."""
        return self.total_s - self.server_s

    @property
    def note(self) -> str:
        """What makes the server's part doubtful; empty where nothing does."""
        if self.requests == 1:
            return ""
        if not self.requests:
            return "The server's statistics did not count the request."
        return f"Other requests disturbed: the times in the server are means over {self.requests} requests."

    def _shares(self) -> list[tuple[str, float]]:
        """Return what the parts are called and how long each took; together they are the total."""
        parts = [(label, self.parts_s[part]) for part, label in _PARTS.items()]
        rest = self.server_s - sum(seconds for _, seconds in parts)
        return [("client and transport", self.client_s), *parts, ("server, the rest", max(0.0, rest))]

    def _title(self) -> str:
        return "Where the time went" + ("" if stable_output() else f": {_ms(self.total_s)}")

    def _rows(self) -> list[tuple[str, str, float]]:
        """Return each part's name, its time and its share of the total, or the names alone."""
        if stable_output():
            return [(label, "", 0.0) for label, _ in self._shares()]
        return [(label, _ms(seconds), round(seconds / self.total_s, 3)) for label, seconds in self._shares()]

    def _noted(self) -> str:
        return "" if stable_output() else self.note

    def __repr__(self) -> str:
        rows = [(label, took, bar(share)) for label, took, share in self._rows()]
        return "\n".join(filter(None, [text_table(self._title(), rows), self._noted()]))

    def _repr_html_(self) -> str:
        return shares_table(self._title(), ("Part", "Time", "Share"), self._rows(), self._noted())


def timed_infer(client: Client, model: str, inputs: Mapping[str, object], options: InferOptions) -> InferResult:
    """Send a request as ``client.infer`` does; its result tells where the time went.

    Raises
    ------
    ServerError
        As ``client.infer``; or the server keeps no statistics, or not for everybody.
    """
    client.metadata(model, options.version)  # what only a first request costs is not to be counted
    before = _counters(client, model, options.version)
    began = time.perf_counter()
    result = client.infer(model, inputs, options)
    total = time.perf_counter() - began
    while (after := _counters(client, model, options.version))["count"] == before["count"]:
        if time.perf_counter() - began - total > _COUNTED_WITHIN_S:
            break
        time.sleep(_ASK_AGAIN_S)
    result.timing = timing_between(before, after, total)
    return result


def timing_between(before: Mapping[str, int], after: Mapping[str, int], total_s: float) -> Timing:
    """Return the timing that the growth of the server's counters gives.

    Parameters
    ----------
    before, after
        ``count``, the requests answered; and in nanoseconds ``success``, the time of all of them, and its parts.
    total_s
        What the client measured.
    """
    requests = max(0, after["count"] - before["count"])

    def mean_s(counter: str) -> float:
        return max(0, after[counter] - before[counter]) / requests / 1e9 if requests else 0.0

    # Backends take the time of the end just after the answer was sent, when the client may have it already.
    return Timing(total_s, min(total_s, mean_s("success")), {part: mean_s(part) for part in _PARTS}, requests)


def _counters(client: Client, model: str, version: str) -> dict[str, int]:
    entries = [entry.get("inference_stats", {}) for entry in client.statistics(model, version)]

    def grown(part: str, unit: str) -> int:
        return sum(int(entry.get(part, {}).get(unit, 0)) for entry in entries)

    return {"count": grown("success", "count")} | {part: grown(part, "ns") for part in ("success", *_PARTS)}


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
