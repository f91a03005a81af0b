"""Measuring a model with several counts of instances: by configurations laid over it, and taken away again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tritonnb.errors import SpecError, TritonNbError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from tritonnb.measure.report import Report

#: Each instance of a Python or ONNX model is a process.
_MOST = 64


def measure_instances(
    config: Mapping[str, Any],
    counts: Sequence[int],
    laying: AbstractContextManager[Callable[[str], object]],
    measure: Callable[[], Report],
) -> Report:
    """Measure a model with each count of instances; afterwards it is served as before.

    Parameters
    ----------
    config
        Its configuration as the server completed it.
    counts
        How many instances.
    laying
        Gives a function that lays the text of a ``config.pbtxt`` over the model; takes it away at its end.
    measure
        Measures the model as it is served.

    Raises
    ------
    SpecError
        A count that cannot be, or a model whose instances are not in one group.
    """
    from tritonnb.repository import pbtxt  # noqa: PLC0415  (gRPC's import, for those who ask for it)

    for count in counts:
        if count not in range(1, _MOST + 1):
            raise SpecError(f"{count!r} instances cannot be served.", hint=f"give whole numbers from 1 to {_MOST}.")
    groups = config.get("instance_group", [])
    if len(groups) != 1:
        raise SpecError(
            f"Model {config.get('name', '')!r} has {len(groups)} groups of instances.",
            hint="the count is measured of models with one; others by editing their config.pbtxt.",
        )
    served = pbtxt.from_json(config)
    reports: list[Report] = []
    ended_early = ""
    with laying as lay:
        for count in counts:
            group = {**groups[0], "name": "", "count": count}  # its name is made of the model's
            try:
                lay(pbtxt.to_text(pbtxt.merge(served, {"instance_group": [group]})))
                reports.append(measure())
            except KeyboardInterrupt:
                if not reports:
                    raise
                ended_early = "interrupted"
            except TritonNbError as error:
                if not reports:
                    raise
                ended_early = f"{count} instances could not be measured: {error.message.rstrip('.')}"
            ended_early = ended_early or reports[-1].ended_early
            if ended_early:
                break
    return replace(
        reports[0],
        points=tuple(point for report in reports for point in report.points),
        warnings=tuple(dict.fromkeys(warning for report in reports for warning in report.warnings)),
        config=config,
        ended_early=ended_early,
    )
