"""Sweeps: every batch size under every load, and what came of it as a report."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

import psutil

from tritonnb.client import Client
from tritonnb.client.shared_memory import SharedMemory
from tritonnb.client.tensors import encode_tensor
from tritonnb.errors import ServerError, ServerUnreachableError, SpecError
from tritonnb.measure import wire
from tritonnb.measure.inputs import check_batch_sizes, requests_of
from tritonnb.measure.load import Load, check_number
from tritonnb.measure.measuring import PointMeasurement
from tritonnb.measure.report import Report
from tritonnb.measure.server_side import ServerSide
from tritonnb.measure.stability import Rule
from tritonnb.render.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.inputs import Inputs
    from tritonnb.measure.point import Point


_MOST_S = 1e6
_GONE_HINT = "see the server's log, and whether the addresses are right."


def measure(
    endpoint: Endpoint,
    model: str,
    *,
    version: str = "",
    batch_sizes: Sequence[int] = (1,),
    concurrency: Sequence[int] = (1,),
    rates: Sequence[float] = (),
    arrivals: str = "constant",
    requests: int | None = None,
    protocol: str = "http",
    inputs: Inputs = "random",
    shapes: Mapping[str, Sequence[int]] | None = None,
    shared_memory: bool = False,
    rule: Rule | None = None,
    warm_up_s: float = 0.5,
    budget_s: float | None = None,
    timeout_s: float = 60.0,
    spec: str = "",
    on_point: Callable[[Point], None] | None = None,
    on_window: Callable[[Point], None] | None = None,
) -> Report:
    """Measure how fast a model answers, at every batch size under every load.

    Ctrl-C ends the sweep; what was measured until then is returned.

    Parameters
    ----------
    endpoint
        The server: ours or any other of the v2 protocol.
    model, version
        The model, and one of its versions, else the one that the server chooses.
    batch_sizes
        Inferences per request.
    concurrency
        Requests outstanding at any time (closed loop).
    rates
        Requests per second (open loop), in place of ``concurrency``.
    arrivals
        At a rate: ``"constant"`` or ``"poisson"``.
    requests
        Send so many per point, in place of windows until they are stable.
    protocol
        ``"http"`` or ``"grpc"``.
    inputs
        ``"random"``, ``"zeros"``, arrays by input name, whose rows are sent in turn, or a list of requests.
    shapes
        For inputs made up whose shape the model leaves open: by input name, without the batch dimension.
    shared_memory
        Let the inputs lie in this machine's shared memory instead of sending them; for a server on this machine.
    rule
        How long windows are and when they agree.
    warm_up_s
        Seconds of each point that do not count.
    budget_s
        The whole sweep is to take no longer than so many seconds.
    timeout_s
        Seconds after which a request counts as failed.
    spec
        The deployment's spec, kept in the report.
    on_point
        Called with every point that is done.
    on_window
        Called with a point as it stands, after each of its windows.

    Raises
    ------
    SpecError
        A batch size, a load or an input that cannot be.
    ServerError
        The model is not known or not ready, the key is wrong, or the server does not answer.
    """
    rule = rule or Rule()
    check_number("warm_up_s", warm_up_s, 0, _MOST_S)
    if budget_s is not None:
        check_number("budget_s", budget_s, 0, _MOST_S)
    loads = _loads(concurrency, rates, arrivals=arrivals, requests=requests, protocol=protocol, timeout_s=timeout_s)
    with Client(endpoint) as client, SharedMemory(lambda: "tritonnb_") as memory:
        metadata, config = client.metadata(model, version), client.config(model, version)
        check_batch_sizes(metadata, batch_sizes)
        built = {}
        for size in batch_sizes:
            requested = requests_of(metadata, inputs, size, shapes)
            placed = [
                memory.keep(client, [encode_tensor(array) for array in arrays.values()]) if shared_memory else ()
                for arrays in requested
            ]
            built[size] = [
                wire.grpc_bytes(model, version, arrays, places)
                if protocol == "grpc"
                else wire.http_bytes(endpoint, model, version, arrays, places)
                for arrays, places in zip(requested, placed, strict=True)
            ]
        instances = sum(int(group.get("count", 0)) for group in config.get("instance_group", ())) or None
        plan = [_Step(size, load, instances) for size in batch_sizes for load in loads]
        sweep = _Sweep(
            endpoint,
            side=ServerSide(client, endpoint, model, version, config),
            plan=plan,
            rule=rule,
            warm_up_s=warm_up_s,
            budget_s=budget_s,
        )
        report = Report(
            model,
            (),
            version=version,
            protocol=protocol,
            mode=arrivals if rates else "concurrency",
            config=config,
            spec=spec,
            settings={
                **asdict(rule),
                "warm_up_s": warm_up_s,
                "inputs": inputs if isinstance(inputs, str) else "own",
                "shared_memory": shared_memory,
            },
            versions={
                "tritonnb": version_of("tritonnb"),
                "server": str(_server_version(client)),
                "python": platform.python_version(),
            },
            machine=_machine(),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        points: list[Point] = []
        ended_early = ""
        try:
            with Progress(f"Measuring {model}") as progress:
                for point in sweep.points(built, progress, on_window):
                    points.append(point)
                    if on_point:
                        on_point(point)
            ended_early = sweep.ended_early
            if ended_early and not points:
                raise ServerUnreachableError(f"Nothing was measured: {ended_early}.", hint=_GONE_HINT)
        except KeyboardInterrupt:
            if not points:
                raise
            ended_early = "interrupted"
    return replace(report, points=tuple(points), ended_early=ended_early)


def _loads(concurrency: Sequence[int], rates: Sequence[float], **fields: Any) -> list[Load]:
    loads = [Load(rate=rate, **fields) for rate in rates] or [
        Load(concurrency=count, **fields) for count in concurrency
    ]
    if not loads:
        raise SpecError("There is no load to measure.", hint="concurrency=[1], or rates=[100].")
    return loads


@dataclass(frozen=True)
class _Step:
    batch_size: int
    load: Load
    instances: int | None

    def __str__(self) -> str:
        return f"batch {self.batch_size}, {self.load}"


class _Sweep:
    def __init__(
        self,
        endpoint: Endpoint,
        *,
        side: ServerSide,
        plan: list[_Step],
        rule: Rule,
        warm_up_s: float,
        budget_s: float | None,
    ) -> None:
        self._endpoint = endpoint
        self._side = side
        self._plan = plan
        self._rule = rule
        self._warm_up_s = warm_up_s
        self._budget_s = budget_s
        self.ended_early = ""

    def points(
        self,
        built: Mapping[int, list[bytes]],
        progress: Progress,
        on_window: Callable[[Point], None] | None,
    ) -> Iterator[Point]:
        began = time.monotonic()
        for done, step in enumerate(self._plan):
            passed = time.monotonic() - began
            left = len(self._plan) - done
            within = float("inf")
            if self._budget_s is not None:
                within = (self._budget_s - passed) / left
                if within <= 0:
                    self.ended_early = f"the time budget of {self._budget_s:g} s was used up"
                    return
            each = passed / done if done else self._warm_up_s + self._rule.windows * self._rule.interval_s
            progress.report(
                f"{step} ({done + 1} of {len(self._plan)}, about {each * left:.0f} s left)", done / len(self._plan)
            )
            about = {
                "batch_size": step.batch_size,
                "concurrency": None if step.load.rate else step.load.concurrency,
                "request_rate": step.load.rate,
                "instances": step.instances,
            }
            measurement = PointMeasurement(
                self._endpoint,
                side=self._side,
                load=step.load,
                requests=built[step.batch_size],
                rule=self._rule,
                about=about,
                tick=progress.tick,
            )
            measurement.run(self._warm_up_s, within, on_window)
            if measurement.measured:
                yield measurement.point()
            if measurement.gone:
                self.ended_early = f"the server stopped answering at {step} ({measurement.gone})"
                return


def _server_version(client: Client) -> str:
    try:
        return str(client.server_metadata().get("version", ""))
    except ServerError:
        return ""


def _machine() -> dict[str, str]:
    return {
        "cpus": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
    }
