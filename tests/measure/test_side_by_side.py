"""Several reports in one table and one chart."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib.colors import to_hex
from measured import report

import tritonnb as tn
from tritonnb.errors import SpecError
from tritonnb.measure.chart import COLORS, TEXT
from tritonnb.measure.point import Point

NAMES = ["model in score.py", "Triton", "Triton behind score.py"]


def three(loads=(1, 4)):
    inside = report((1,), loads)
    quick = tuple(replace(point, duration_s=point.duration_s / 2) for point in inside.points)
    return dict(zip(NAMES, (inside, replace(inside, points=quick), replace(inside, unit="requests")), strict=True))


def test_each_load_has_a_row_of_each_report():
    rows = tn.side_by_side(three()).rows
    assert [(row["concurrency"], row["name"]) for row in rows] == [(load, name) for load in (1, 4) for name in NAMES]
    assert [row["requests_per_s"] for row in rows[:3]] == pytest.approx([1000 / 6, 2000 / 6, 1000 / 6])
    assert rows[0]["p50_us"] == pytest.approx(6000, rel=1e-3)


def test_loads_that_only_some_have_are_left_out_and_the_lowest_is_first():
    reports = three()
    reports["Triton"] = replace(reports["Triton"], points=reports["Triton"].points[::-1])
    reports[NAMES[0]] = report((1,), (8, 4, 1))
    assert [points[0].concurrency for points in tn.side_by_side(reports).loads] == [1, 4]


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ({}, "There is no report"),
        (
            {"a": report((1,), (1,)), "b": report((1,), (2,))},
            r"no load in common(.|\n)*a: concurrency 1; b: concurrency 2",
        ),
        ({"a": report((1, 2), (1,))}, "'a' has several points at concurrency 1"),
    ],
    ids=["none", "nothing in common", "several batch sizes"],
)
def test_what_cannot_be_put_side_by_side_is_told(reports, said):
    with pytest.raises(SpecError, match=said):
        tn.side_by_side(reports)


def test_the_chart_draws_throughput_and_p50_as_groups_of_bars_with_p95_above():
    compared = tn.side_by_side(three())
    throughput, latency = compared.figure().axes
    for axes, field, unit in ((throughput, "requests_per_s", 1), (latency, "p50_us", 1000)):
        bars = {bar.get_label(): list(bar) for bar in axes.containers if bar.get_label() in NAMES}
        assert list(bars) == NAMES
        for name, drawn in bars.items():
            seen = [row[field] / unit for row in compared.rows if row["name"] == name]
            assert [bar.get_height() for bar in drawn] == pytest.approx(seen)
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4"]
        assert axes.get_xlabel() == "concurrency"
    marks = [segment[:, 1].max() for lines in latency.collections for segment in lines.get_segments()]
    assert sorted(marks) == pytest.approx(sorted(row["p95_us"] / 1000 for row in compared.rows))


def test_the_bars_of_a_load_stand_beside_each_other_and_are_told_apart_in_print():
    throughput, _ = tn.side_by_side(three()).figure().axes
    first = [bars[0] for bars in throughput.containers]
    for left, right in pairwise(first):
        assert left.get_x() + left.get_width() <= right.get_x() + 1e-9
    assert len({bar.get_hatch() for bar in first}) == 3
    [legend] = throughput.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES
    assert all(to_hex(text.get_color()) == TEXT for text in legend.get_texts())
    assert [patch.get_facecolor() for patch in legend.get_patches()] == [bar.get_facecolor() for bar in first]


def test_one_that_answered_nothing_is_told_and_drawn_all_the_same(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    failed = Point.from_latencies([], batch_size=1, concurrency=1, duration_s=1, errors={"HTTP 500": 3})
    compared = tn.side_by_side({"well": report((1,), (1,)), "ill": replace(report(), points=(failed,))})
    assert compared.rows[1]["p50_us"] is None
    assert repr(compared).splitlines()[-1].split() == ["1", "ill", "0", "-", "-", "-", "3"]
    assert compared.figure().png().startswith(b"\x89PNG")


def test_it_is_shown_as_a_table_and_a_chart_and_stable_where_that_is_asked_for(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    compared = tn.side_by_side(three())
    assert "<img" in compared._repr_html_()
    assert "Triton behind score.py" in repr(compared)
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "1")
    assert "<img" not in compared._repr_html_()
    assert repr(compared) == repr(tn.side_by_side({**three(), "Triton": report((1,), (1, 4))}))


def test_as_many_as_there_are_colours_can_be_drawn():
    compared = tn.side_by_side({f"way {index}": report((1,), (1,)) for index in range(len(COLORS) + 1)})
    assert len(compared.figure().axes[0].containers) == len(COLORS) + 1
