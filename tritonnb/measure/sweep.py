"""Sweeps: every batch size under every load, and what came of it as a report."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from tritonnb.client import Client
from tritonnb.client.shared_memory import SharedMemory
from tritonnb.client.tensors import encode_tensor
from tritonnb.errors import ServerError
from tritonnb.measure import wire
from tritonnb.measure.inputs import check_batch_sizes, requests_of
from tritonnb.measure.report import Report
from tritonnb.measure.server_side import ServerSide
from tritonnb.measure.stability import Rule
from tritonnb.measure.steps import Pace, Step, Sweep, loads_of, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tritonnb.endpoint import Endpoint
    from tritonnb.measure.inputs import Inputs
    from tritonnb.measure.point import Point


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
    pace = Pace(rule or Rule(), warm_up_s, budget_s)
    loads = loads_of(concurrency, rates, arrivals=arrivals, requests=requests, protocol=protocol, timeout_s=timeout_s)
    with Client(endpoint) as client, SharedMemory(lambda: "tritonnb_") as memory:
        metadata, config = client.metadata(model, version), client.config(model, version)
        check_batch_sizes(metadata, batch_sizes)
        instances = sum(int(group.get("count", 0)) for group in config.get("instance_group", ())) or None
        steps = []
        for size in batch_sizes:
            requested = requests_of(metadata, inputs, size, shapes)
            placed = [
                memory.keep(client, [encode_tensor(array) for array in arrays.values()]) if shared_memory else ()
                for arrays in requested
            ]
            built = [
                wire.grpc_bytes(model, version, arrays, places)
                if protocol == "grpc"
                else wire.http_bytes(endpoint, model, version, arrays, places)
                for arrays, places in zip(requested, placed, strict=True)
            ]
            steps += [Step(load, built, size, instances) for load in loads]
        report = Report(
            model,
            (),
            version=version,
            protocol=protocol,
            mode=arrivals if rates else "concurrency",
            config=config,
            spec=spec,
            settings={
                **asdict(pace.rule),
                "warm_up_s": warm_up_s,
                "inputs": inputs if isinstance(inputs, str) else "own",
                "shared_memory": shared_memory,
            },
            versions={
                "tritonnb": version_of("tritonnb"),
                "server": str(_server_version(client)),
                "python": platform.python_version(),
            },
            machine=machine(),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        sweep = Sweep(endpoint, ServerSide(client, endpoint, model, version, config), steps, pace)
        return sweep.run(report, on_point, on_window)


def _server_version(client: Client) -> str:
    try:
        return str(client.server_metadata().get("version", ""))
    except ServerError:
        return ""
