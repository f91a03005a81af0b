"""What to change in a model's configuration, each change with the measurement that speaks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonnb.measure.knee import fastest
from tritonnb.measure.limits import CPUS_BUSY
from tritonnb.measure.rows import number

if TYPE_CHECKING:
    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report

#: A gain below this is within what two measurements of the same thing may differ (perf_analyzer's stability rule).
WORTH = 1.1


def changes_of(report: Report, chosen: Point, limited_by: str) -> tuple[dict[str, Any], list[str]]:
    """Return Triton's keys to change, with plain values, and a sentence for each reason or further advice.

    Parameters
    ----------
    report
        What was measured, the points within the limit alone.
    chosen
        The point that is recommended.
    limited_by
        What limits it.
    """
    if "ensemble_scheduling" in report.config:
        return {}, ["An ensemble has no instances of its own: measure the models that it is made of."]
    changes: dict[str, Any] = {}
    reasons: list[str] = []
    for advise in (_instances, _dynamic_batching, _queue_delay, _larger_batches):
        change, reason = advise(report, chosen, limited_by)
        changes |= change
        reasons += [reason] if reason else []
    if limited_by == "network":
        reasons.append(
            "Larger batches share the way between more inferences; gRPC, or shared memory for large inputs, shorten it."
        )
    return changes, reasons


def _instances(report: Report, chosen: Point, limited_by: str) -> tuple[dict[str, Any], str]:
    groups = report.config.get("instance_group", [])
    counts = sorted({point.instances for point in report.points if point.instances})
    if len(groups) != 1 or chosen.instances is None:
        return {}, ""
    now = int(groups[0].get("count", 1))
    if chosen.instances != now:
        other = fastest(point for point in report.points if point.instances == now)
        if other is not None and chosen.inferences_per_s < WORTH * other.inferences_per_s:
            return {}, f"{chosen.instances} instances are hardly faster than {now}."
        gain = "" if other is None else f": {_gain(chosen, other)} of the best with {now}"
        group = {**groups[0], "name": "", "count": chosen.instances}  # its name is made of the model's
        return {"instance_group": [group]}, f"Serve {chosen.instances} instances instead of {now}{gain}."
    if limited_by == "queue" and len(counts) == 1:
        if chosen.machine_cpu_share is not None and chosen.machine_cpu_share > CPUS_BUSY:
            return {}, "More instances would not help: they would share the same CPUs."
        return {}, f"A further instance may take from the queue: measure with {now} and {now + 1} instances."
    return {}, ""


def _dynamic_batching(report: Report, _: Point, __: str) -> tuple[dict[str, Any], str]:
    batches = int(report.config.get("max_batch_size", 0)) > 1
    if not batches or {"dynamic_batching", "sequence_batching"} & set(report.config):
        return {}, ""
    one = fastest(point for point in report.points if point.batch_size == 1)
    many = fastest(point for point in report.points if point.batch_size > 1)
    if one is None or many is None or many.inferences_per_s < WORTH * one.inferences_per_s:
        return {}, ""
    # Without preferred sizes, as Triton's guide to batchers advises for all but special models.
    reason = (
        f"Where callers send single inferences, let the server join them (dynamic_batching): batch {many.batch_size} "
        f"gives {_gain(many, one)} of batch 1."
    )
    return {"dynamic_batching": {}}, reason


def _queue_delay(report: Report, chosen: Point, _: str) -> tuple[dict[str, Any], str]:
    batching = report.config.get("dynamic_batching")
    joined, server = chosen.mean_executed_batch, chosen.server
    many_at_once = (chosen.concurrency or 0) > (chosen.instances or 1)
    if batching is None or joined is None or server is None or not many_at_once:
        return {}, ""
    most = report.config.get("max_batch_size", 0) // chosen.batch_size
    if joined > WORTH * chosen.batch_size:
        return {}, f"Dynamic batching works: the model ran batches of {number(joined)} on average."
    if most < 2 or int(batching.get("max_queue_delay_microseconds", 0)):  # noqa: PLR2004  (two requests make a batch)
        return {}, ""
    delay = max(100, int(server.compute_us / 10))
    reason = (
        f"Dynamic batching found nothing to join (batches of {number(joined)}): let a request wait up to {delay} µs, "
        "a tenth of its compute time, for others, and measure again."
    )
    return {"dynamic_batching": {**batching, "max_queue_delay_microseconds": delay}}, reason


def _larger_batches(report: Report, chosen: Point, _: str) -> tuple[dict[str, Any], str]:
    most = int(report.config.get("max_batch_size", 0))
    sizes = sorted({point.batch_size for point in report.points})
    if most <= 1 or chosen.batch_size != most or len(sizes) == 1:
        return {}, ""
    last, before = (fastest(point for point in report.points if point.batch_size == size) for size in sizes[:-3:-1])
    if last is None or before is None or last.inferences_per_s < WORTH * before.inferences_per_s:
        return {}, ""
    reason = (
        f"Allow larger batches (max_batch_size {2 * most}), if the model can: batch {most} still gives "
        f"{_gain(last, before)} of batch {before.batch_size}."
    )
    return {"max_batch_size": 2 * most}, reason


def _gain(more: Point, less: Point) -> str:
    return f"{more.inferences_per_s / less.inferences_per_s:.1f} times the throughput"
