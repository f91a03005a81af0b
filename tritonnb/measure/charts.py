"""The four charts of a report, pure functions of it: nothing is measured, read or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tritonnb.measure.chart import COLORS, HATCHES, LINES, MARKERS, TEXT, Chart, dress, legend, logarithmic
from tritonnb.measure.knee import knee, load_value
from tritonnb.measure.rows import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from tritonnb.measure.comparison import Comparison
    from tritonnb.measure.point import Latency, Point
    from tritonnb.measure.report import Report
    from tritonnb.measure.side_by_side import SideBySide

_US_PER_MS = 1e3
#: So many bars can be told apart.
_BARS = 12
_VALUE = {"color": TEXT, "fontsize": 7}
_PERCENTILES = {"p50": "p50_us", "p90": "p90_us", "p95": "p95_us", "p99": "p99_us"}
_PARTS = ("queue", "compute input", "compute infer", "compute output", "network and client")


def latency_chart(report: Report) -> Chart:
    """Return the percentiles of the latency against the batch size; against the load where there is one batch size.

    Where several loads were measured it is the knee's.
    """
    chart = Chart(f"Latency percentiles of {report.model}.", height=3.6)
    draw_latency(chart.add_subplot(), report)
    return chart


def throughput_chart(report: Report, p95_limit_us: float | None = None) -> Chart:
    """Return inferences per second against p95 latency: one line for each batch size, the knee marked.

    Parameters
    ----------
    report
        What was measured.
    p95_limit_us
        A limit to draw, in microseconds.
    """
    chart = Chart(f"Throughput against latency of {report.model}.")
    draw_throughput(chart.add_subplot(), report, p95_limit_us)
    return chart


def split_chart(report: Report) -> Chart:
    """Return where the mean latency of each point goes: the server's own account, and the rest.

    Of more than 12 points only the lowest and the highest load of each batch size are drawn.
    """
    chart = Chart(f"Where the time of {report.model} goes.")
    draw_split(chart.add_subplot(), report)
    return chart


def distribution_chart(report: Report) -> Chart:
    """Return how the latencies of each batch size are distributed, at the knee's load."""
    chart = Chart(f"Distribution of the latencies of {report.model}.", height=3.6)
    draw_distribution(chart.add_subplot(), report)
    return chart


def overview(report: Report, p95_limit_us: float | None = None) -> Chart:
    """Return the four charts in one figure.

    Parameters
    ----------
    report
        What was measured.
    p95_limit_us
        A limit to draw, in microseconds.
    """
    best = knee(report.points)
    alt = f"Latency, throughput, distribution and split of the time of {report.model}."
    if best and best.latency:
        figures = f"{best.inferences_per_s:.3g} {report.unit}/s, p95 {_ms(best.latency.p95_us):.3g} ms"
        alt += f" The knee is at {report.label(best)}: {figures}."
    chart = Chart(alt, width=11, height=7.5)
    # An entry script gives no account of its time.
    axes = chart.subplot_mosaic("TL;SD" if report.unit == "inferences" else "TL;DD")
    draw_throughput(axes["T"], report, p95_limit_us)
    draw_latency(axes["L"], report)
    if "S" in axes:
        draw_split(axes["S"], report)
    draw_distribution(axes["D"], report)
    return chart


def comparison_chart(comparison: Comparison) -> Chart:
    """Return throughput and p95 latency of each load that two reports have in common, as pairs of bars."""
    pairs = comparison.pairs
    chart = Chart(
        f"Throughput and p95 latency of {comparison.after.model}, before and after.",
        width=9,
        height=1.6 + 0.5 * len(pairs),
    )
    throughput, latency = chart.subplots(1, 2, sharey=True)
    for name, index, color, hatch in (("before", 0, TEXT, ""), ("after", 1, COLORS[0], HATCHES[1])):
        at = [row + 0.38 * (index - 0.5) for row in range(len(pairs))]
        look = {"height": 0.38, "color": color, "hatch": hatch, "edgecolor": "none", "label": name}
        points = [pair[index] for pair in pairs]
        throughput.barh(at, [point.inferences_per_s for point in points], **look)
        latency.barh(at, [_ms(point.latency.p95_us) if point.latency else 0 for point in points], **look)
    throughput.set_yticks(range(len(pairs)), [comparison.after.label(after) for _, after in pairs])
    throughput.set_ylim(len(pairs) - 0.5, -0.5)  # the first on top
    dress(throughput, title="Throughput (more is better)", x=f"{comparison.after.unit}/s", y="", values="x")
    dress(latency, title="p95 latency (less is better)", x="ms", y="", values="x")
    legend(latency, loc="upper left", bbox_to_anchor=(1, 1))
    return chart


def side_by_side_chart(compared: SideBySide) -> Chart:
    """Return throughput and latency of several reports: at each load a bar for each, its p95 a mark above its p50."""
    loads, names = compared.loads, list(compared.reports)
    chart = Chart(f"Throughput and latency of {', '.join(names)}, at each load.", width=11, height=4)
    throughput, latency = chart.subplots(1, 2)
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        at = [group + width * (index - (len(names) - 1) / 2) for group in range(len(loads))]
        points = [points[index] for points in loads]
        p50, p95 = (
            [_ms(getattr(point.latency, field)) if point.latency else 0.0 for point in points]
            for field in ("p50_us", "p95_us")
        )
        look = {
            "width": width,
            "color": COLORS[index % len(COLORS)],
            "hatch": HATCHES[index % len(HATCHES)],
            "edgecolor": "none",
        }
        bars = throughput.bar(at, [point.requests_per_s for point in points], label=name, **look)
        throughput.bar_label(bars, [number(point.requests_per_s) for point in points], **_VALUE)
        latency.bar(at, p50, label=name, **look)
        latency.errorbar(at, p50, yerr=[[0.0] * len(p50), np.subtract(p95, p50)], fmt="none", ecolor=TEXT, capsize=4)
        for x, half, most in zip(at, p50, p95, strict=True):
            text = f"{number(most)}\n{number(half)}"
            latency.annotate(text, (x, most), (0, 2), textcoords="offset points", ha="center", **_VALUE)
    load = "concurrency" if loads[0][0].request_rate is None else "requests/s asked"
    for axes in (throughput, latency):
        axes.set_xticks(range(len(loads)), [points[0].load_text for points in loads])
        axes.margins(y=0.15)  # room for the highest bar's figures
        axes.set_ylim(bottom=0)
    dress(throughput, title="Throughput (more is better)", x=load, y="requests/s")
    dress(latency, title="Latency: the bar is p50, the mark p95 (less is better)", x=load, y="ms")
    handles, labels = throughput.get_legend_handles_labels()
    chart.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, labelcolor=TEXT, fontsize=9)
    return chart


def draw_latency(axes: Axes, report: Report) -> None:
    """Draw what `latency_chart` shows."""
    points = _at_the_knees_load(report) if len(_batches(report)) > 1 else _answered(report.points)
    by_batch = len(_batches(report)) > 1
    ticks = [str(point.batch_size) if by_batch else point.load_text for point in points]
    where = ""
    if by_batch and points:
        where = f" at {_load(points[0])}"
    elif points and report.unit == "inferences":
        where = f" at batch {points[0].batch_size}"
    for (name, field), color, marker in zip(_PERCENTILES.items(), COLORS, MARKERS, strict=False):
        latencies = [_ms(getattr(latency, field)) for _, latency in _latencies(points)]
        axes.plot(range(len(latencies)), latencies, color=color, marker=marker, label=name)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])  # room for the highest mark
    dress(axes, title=f"Latency{where}", x="batch size" if by_batch else _load_name(report), y="ms")
    legend(axes)


def draw_throughput(axes: Axes, report: Report, p95_limit_us: float | None = None) -> None:
    """Draw what `throughput_chart` shows."""
    for index, (name, points) in enumerate(_series(report).items()):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        x = [_ms(latency.p95_us) for _, latency in _latencies(points)]
        y = [point.inferences_per_s for point in points]
        axes.plot(x, y, color=color, marker=marker, label=name)
        for point, at in zip(points, zip(x, y, strict=True), strict=True):
            axes.annotate(point.load_text, at, (-10, 5), textcoords="offset points", color=TEXT, fontsize=7)
    best = knee(report.points)
    if best and best.latency:
        at = _ms(best.latency.p95_us), best.inferences_per_s
        axes.plot(*at, "o", markersize=14, markerfacecolor="none", color=TEXT, label="_knee")
        axes.annotate("knee", at, (0, -16), textcoords="offset points", color=TEXT, fontsize=8, ha="center")
    if p95_limit_us is not None:
        axes.axvline(_ms(p95_limit_us), color=TEXT, linestyle="--", label=f"limit {_ms(p95_limit_us):g} ms")
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])  # room for the last line's words
    dress(axes, title=f"Throughput against latency, by {_load_name(report)}", x="p95 latency, ms", y=f"{report.unit}/s")
    logarithmic(axes)
    legend(axes, loc="upper left", bbox_to_anchor=(1, 1))


def draw_split(axes: Axes, report: Report) -> None:
    """Draw what `split_chart` shows."""
    points = [point for point in _bars(report) if point.server]
    left = [0.0] * len(points)
    for name, color, hatch in zip(_PARTS, COLORS, HATCHES, strict=False):
        widths = [_ms(_parts(point)[name]) for point in points]
        axes.barh(range(len(points)), widths, left=left, color=color, hatch=hatch, edgecolor="none", label=name)
        left = [sum(pair) for pair in zip(left, widths, strict=True)]
    words = ["batch size", _load_name(report), "instances"]
    ticks = [[str(point.batch_size), point.load_text, str(point.instances)] for point in points]
    told = 3 if report.several_instances else 2
    axes.set_yticks(range(len(points)), [", ".join(tick[:told]) for tick in ticks])
    axes.set_ylim(max(len(points), 4) - 0.5, -0.5)  # the first on top; few bars stay slim
    dress(axes, title="Where the time goes (means)", x="ms", y=", ".join(words[:told]), values="x")
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def draw_distribution(axes: Axes, report: Report) -> None:
    """Draw what `distribution_chart` shows."""
    points = _at_the_knees_load(report)
    for index, point in enumerate(points):
        if point.histogram:
            histogram = point.histogram.readable()
            shares = [100 * count / point.requests for count in histogram.counts]
            edges = [_ms(edge) for edge in histogram.edges_us]
            color, line = COLORS[index % len(COLORS)], LINES[index % len(LINES)]
            axes.stairs(shares, edges, label=_what(report, point), color=color, linestyle=line, linewidth=1.5)
    where = f" at {_load(points[0])}" if points else ""
    dress(axes, title=f"Distribution{where}", x="latency, ms", y="% of the requests")
    logarithmic(axes)
    legend(axes)


def _answered(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if point.latency]


def _latencies(points: Iterable[Point]) -> list[tuple[Point, Latency]]:
    return [(point, point.latency) for point in points if point.latency]


def _batches(report: Report) -> list[int]:
    return sorted({point.batch_size for point in report.points})


def _at_the_knees_load(report: Report) -> list[Point]:
    """Return the points with the load and the instances of the knee, in the order of their batch sizes."""
    answered = _answered(report.points)
    chosen = knee(answered) or next(iter(answered), None)
    if chosen is None:
        return []
    same = [p for p in answered if (p.load_text, p.instances) == (chosen.load_text, chosen.instances)]
    return sorted(same, key=lambda point: point.batch_size)


def _series(report: Report) -> dict[str, list[Point]]:
    """Return the answered points of each batch size and count of instances, in the order of their load."""
    series: dict[str, list[Point]] = {}
    for point in _answered(report.points):
        instances = f", {point.instances} instance{'s' * (point.instances != 1)}" if report.several_instances else ""
        series.setdefault(f"{_what(report, point)}{instances}", []).append(point)
    return {name: sorted(points, key=load_value) for name, points in series.items()}


def _bars(report: Report) -> Sequence[Point]:
    """Return the points that have a bar: all, or the lowest and the highest load of each series."""
    points = [point for series in _series(report).values() for point in series]
    if len(points) <= _BARS:
        return points
    return [point for series in _series(report).values() for point in (series[:1] + series[1:][-1:])]


def _parts(point: Point) -> dict[str, float]:
    """Return where the mean latency of a point with the server's account goes, in microseconds."""
    server = point.server
    if server is None:
        return dict.fromkeys(_PARTS, 0.0)
    times = (server.queue_us, server.compute_input_us, server.compute_infer_us, server.compute_output_us)
    return dict(zip(_PARTS, (*times, point.network_us or 0.0), strict=True))


def _what(report: Report, point: Point) -> str:
    """Return what a line of a chart is called: its batch size, or what was measured where there is none."""
    return f"batch {point.batch_size}" if report.unit == "inferences" else report.model


def _load(point: Point) -> str:
    return f"{point.load_text} requests/s" if point.concurrency is None else f"concurrency {point.load_text}"


def _load_name(report: Report) -> str:
    return "concurrency" if report.mode == "concurrency" else "requests/s"


def _ms(microseconds: float) -> float:
    return microseconds / _US_PER_MS
