"""How fast an entry script answers behind ``/score``: the same load, windows and report as for a model."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from tritonnb.measure import wire
from tritonnb.measure.report import Report
from tritonnb.measure.server_side import Snapshot, cpu_seconds, server_processes
from tritonnb.measure.stability import Rule
from tritonnb.measure.steps import Pace, Step, Sweep, loads_of, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.point import Point


def measure_run(
    scoring: Endpoint,
    body: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    name: str = "score",
    concurrency: Sequence[int] = (1,),
    rates: Sequence[float] = (),
    arrivals: str = "constant",
    requests: int | None = None,
    rule: Rule | None = None,
    warm_up_s: float = 0.5,
    budget_s: float | None = None,
    timeout_s: float = 60.0,
    spec: str = "",
    on_point: Callable[[Point], None] | None = None,
    on_window: Callable[[Point], None] | None = None,
) -> Report:
    """Measure how fast an entry script answers one and the same request, under every load.

    Ctrl-C ends it; what was measured until then is returned. Any web service that takes a POST can be measured so.

    Parameters
    ----------
    scoring
        Its ``url`` is the whole address, ``http://127.0.0.1:6789/score``; its headers hold the key.
    body
        What is sent.
    headers
        Sent beside the endpoint's own, such as ``Content-Type``.
    name
        What the report calls it.
    concurrency, rates, arrivals, requests, rule, warm_up_s, budget_s, timeout_s, spec, on_point, on_window
        As `tritonnb.measure.sweep.measure` takes them.

    Returns
    -------
    Report
        Its ``unit`` is ``"requests"``. Without the server's account of the time: the script alone knows what it asks.

    Raises
    ------
    SpecError
        A load or a header that cannot be.
    ServerUnreachableError
        Nothing answers.
    """
    pace = Pace(rule or Rule(), warm_up_s, budget_s)
    loads = loads_of(concurrency, rates, arrivals=arrivals, requests=requests, timeout_s=timeout_s)
    built = [wire.post_bytes(scoring, body, headers or {})]
    report = Report(
        name,
        (),
        mode=arrivals if rates else "concurrency",
        unit="requests",
        spec=spec,
        settings={**asdict(pace.rule), "warm_up_s": warm_up_s, "body_bytes": len(body)},
        versions={"tritonnb": version_of("tritonnb"), "python": platform.python_version()},
        machine=machine(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    steps = [Step(load, built) for load in loads]
    return Sweep(scoring, _Processes(scoring), steps, pace).run(report, on_point, on_window)


class _Processes:
    """The CPU time of the processes behind an address of this machine: all that can be seen of them."""

    def __init__(self, scoring: Endpoint) -> None:
        self._processes = server_processes(scoring)

    def look(self) -> Snapshot:
        return Snapshot(0, {}, Counter(), cpu_seconds(self._processes))
