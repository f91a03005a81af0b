import io
from dataclasses import replace

import numpy as np
import pytest
from measured import point, report
from PIL import Image

from tritonnb.measure.chart import COLORS, TEXT, Chart, image
from tritonnb.measure.charts import (
    comparison_chart,
    distribution_chart,
    latency_chart,
    overview,
    split_chart,
    throughput_chart,
)
from tritonnb.measure.knee import fastest, knee, next_load
from tritonnb.measure.point import Point

CHARTS = (latency_chart, throughput_chart, split_chart, distribution_chart, overview)


def lines(axes):
    """Return what a legend names: the points of each line by its label."""
    return {
        line.get_label(): [tuple(map(float, xy)) for xy in line.get_xydata()]
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def words(axes):
    return [text.get_text() for text in axes.texts]


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_latency_is_drawn_against_the_batch_size_at_the_knee_s_load():
    measured = report()
    assert (knee(measured.points).batch_size, knee(measured.points).concurrency) == (4, 1)
    (axes,) = latency_chart(measured).axes
    drawn = lines(axes)
    assert list(drawn) == ["p50", "p90", "p95", "p99"]
    assert [y for _, y in drawn["p50"]] == pytest.approx([6, 7, 9], rel=1e-3)
    assert [y for _, y in drawn["p95"]] == pytest.approx([p.latency.p95_us / 1000 for p in measured.points[::3]])
    assert ticks(axes.xaxis) == ["1", "2", "4"]
    assert axes.get_title("left") == "Latency at concurrency 1"
    assert axes.get_xlabel() == "batch size"


def test_latency_of_one_batch_size_is_drawn_against_the_load():
    (axes,) = latency_chart(report((2,), (1, 4, 8))).axes
    assert [y for _, y in lines(axes)["p50"]] == pytest.approx([7, 24, 48], rel=1e-2)
    assert (ticks(axes.xaxis), axes.get_xlabel()) == (["1", "4", "8"], "concurrency")
    assert axes.get_title("left") == "Latency at batch 2"


def test_throughput_is_drawn_against_latency_with_a_line_for_each_batch_size_in_the_order_of_the_load():
    measured = report(batch_sizes=(1, 4), concurrency=(4, 1, 2))
    (axes,) = throughput_chart(measured, p95_limit_us=20_000).axes
    drawn = lines(axes)
    assert list(drawn) == ["batch 1", "batch 4", "limit 20 ms"]
    assert [y for _, y in drawn["batch 4"]] == pytest.approx([1000 * 4 / 9, 500, 500], rel=1e-3)
    x = [x for x, _ in drawn["batch 4"]]
    assert x == sorted(x)
    assert words(axes) == ["1", "2", "4", "1", "2", "4", "knee"]
    assert {x for x, _ in drawn["limit 20 ms"]} == {20}


def test_the_knee_is_marked_where_it_is():
    measured = report()
    (axes,) = throughput_chart(measured).axes
    (ring,) = [line for line in axes.get_lines() if line.get_label() == "_knee"]
    best = knee(measured.points)
    assert ring.get_xydata()[0] == pytest.approx([best.latency.p95_us / 1000, best.inferences_per_s])


def test_a_rate_is_named_as_such():
    timed = [replace(point(1, 1), concurrency=None, request_rate=rate) for rate in (50.0, 12.5)]
    (axes,) = throughput_chart(report(points=tuple(timed), mode="poisson")).axes
    assert words(axes)[:2] == ["12.5", "50"]
    assert "requests/s" in axes.get_title("left")


def test_counts_of_instances_have_their_own_lines_and_bars():
    measured = report(points=tuple(point(1, load, instances=count) for count in (1, 2) for load in (1, 4)))
    assert list(lines(throughput_chart(measured).axes[0])) == ["batch 1, 1 instance", "batch 1, 2 instances"]
    assert ticks(split_chart(measured).axes[0].yaxis) == ["1, 1, 1", "1, 4, 1", "1, 1, 2", "1, 4, 2"]


def test_the_split_of_each_bar_adds_up_to_the_mean_latency():
    measured = report((1, 2), (1, 4))
    (axes,) = split_chart(measured).axes
    assert [bars.get_label() for bars in axes.containers] == [
        "queue",
        "compute input",
        "compute infer",
        "compute output",
        "network and client",
    ]
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[-1]]
    assert ends == pytest.approx([p.latency.mean_us / 1000 for p in measured.points])
    queues = [bar.get_width() for bar in axes.containers[0]]
    assert queues == pytest.approx([0, 14, 0, 17])
    assert ticks(axes.yaxis) == ["1, 1", "1, 4", "2, 1", "2, 4"]


def test_of_many_points_the_split_shows_the_lowest_and_the_highest_load():
    (axes,) = split_chart(report(concurrency=(1, 2, 3, 4, 8))).axes
    assert ticks(axes.yaxis) == ["1, 1", "1, 8", "2, 1", "2, 8", "4, 1", "4, 8"]


def test_the_distribution_of_each_batch_size_adds_up_to_all_requests():
    (axes,) = distribution_chart(report()).axes
    assert [patch.get_label() for patch in axes.patches] == ["batch 1", "batch 2", "batch 4"]
    for patch, middle in zip(axes.patches, (6, 7, 9), strict=True):
        shares, edges, _ = patch.get_data()
        assert shares.sum() == pytest.approx(100)
        assert edges[0] < middle < edges[-1]


def test_a_comparison_draws_both_for_each_load():
    before, after = report((1, 2), (1,)), report((1, 2), (1,))
    after = replace(after, points=tuple(replace(p, duration_s=p.duration_s / 2) for p in after.points))
    throughput, latency = comparison_chart(before.compare(after)).axes
    assert [bars.get_label() for bars in throughput.containers] == ["before", "after"]
    then, now = ([bar.get_width() for bar in bars] for bars in throughput.containers)
    np.testing.assert_allclose(now, np.multiply(then, 2))
    assert [bar.get_width() for bar in latency.containers[1]] == pytest.approx([6.54, 7.63], rel=1e-2)
    assert ticks(throughput.yaxis) == ["batch 1, concurrency 1", "batch 2, concurrency 1"]


@pytest.mark.parametrize("draw", CHARTS)
@pytest.mark.parametrize(
    "points",
    [
        (),
        (point(1, 1),),
        (Point.from_latencies([], batch_size=1, concurrency=1, duration_s=1, errors={"HTTP 500": 1}),),
        (Point.from_latencies([1e6], batch_size=1, concurrency=1, duration_s=1), point(2, 1)),
        (point(1, 1, errors={"HTTP 500": 1}),),
    ],
    ids=["none", "one", "failed", "no account", "some failed"],
)
def test_whatever_was_measured_can_be_drawn(draw, points):
    assert draw(report(points=points)).png().startswith(b"\x89PNG")


def test_a_figure_is_transparent_and_shows_itself_in_a_notebook_at_half_its_pixels():
    chart = latency_chart(report())
    png, shown = chart._repr_png_()
    picture = Image.open(io.BytesIO(png))
    assert picture.convert("RGBA").getpixel((0, 0))[3] == 0
    assert picture.width == 2 * shown["width"]
    assert shown["alt"] == "Latency percentiles of steady."
    assert isinstance(chart, Chart)


def test_an_image_s_words_are_escaped():
    assert 'alt="Where the time of &lt;b&gt;&quot; goes."' in image(split_chart(report(model='<b>"')))


def luminance(color):
    channels = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
@pytest.mark.parametrize(("color", "least"), [(TEXT, 4.0), *((color, 3.0) for color in COLORS)])
def test_every_colour_is_read_on_light_and_on_dark(color, least, ground):
    darker, lighter = sorted((luminance(color), luminance(ground)))
    assert (lighter + 0.05) / (darker + 0.05) >= least


def test_the_knee_is_where_throughput_over_latency_is_greatest():
    # One instance, one request at a time: a second one keeps it busy while answers travel, a third one only waits.
    points = [point(1, load) for load in (1, 2, 3, 8)]
    powers = [p.inferences_per_s / p.latency.mean_us for p in points]
    assert knee(points) is points[int(np.argmax(powers))]
    assert next_load(points, points[1]) is points[2]
    assert next_load(points, points[3]) is None


def test_the_fastest_within_a_limit_keeps_it_and_has_no_failures():
    points = [point(1, 1), point(1, 2), point(2, 2, errors={"HTTP 500": 1}), point(4, 4)]
    assert fastest(points) is points[3]
    assert fastest(points, 12_000) is points[1]
    assert fastest(points, 1_000) is None
    assert knee([points[2]]) is None
