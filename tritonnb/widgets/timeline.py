"""The last minutes as a small chart: requests a second, and how long they took."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from tritonnb.widgets.traffic import Traffic

REDRAW_S = 5.0
#: Legible on white as on black: at least 4.5 to 1 against neither can be had by one grey, 3.9 to 1 on both can.
GREY = "#808080"
#: Requests and latency; told apart by where they stand and what is written beside, not by colour alone.
RATE, LATENCY = "#3d8bfd", "#e8710a"


class Timeline(widgets.Image):  # type: ignore[misc]  # ipywidgets has no types
    """Requests a second and their mean latency over the last five minutes; drawn again when the data changed."""

    def __init__(self) -> None:
        super().__init__(format="png", layout=widgets.Layout(max_width="100%", width="640px", display="none"))
        self._drawn: object = None
        self._drawn_at = 0.0
        self._figure: Figure | None = None
        self._drawing = threading.Lock()

    def show(self, steps: Sequence[tuple[float, Traffic]]) -> None:
        """Draw the steps, unless nothing changed or the last drawing is too young."""
        what = [(traffic.requests_per_s, traffic.latency_ms) for _, traffic in steps]
        quiet = self._drawn is None and not any(rate for rate, _ in what)
        now = time.monotonic()
        if quiet or what == self._drawn or now - self._drawn_at < REDRAW_S:
            return
        self._drawn, self._drawn_at = what, now
        with self._drawing:
            self.value = self._png(steps)
        self.layout.display = ""

    def _png(self, steps: Sequence[tuple[float, Traffic]]) -> bytes:
        if self._figure is None:
            from matplotlib.figure import Figure  # noqa: PLC0415  (not before there is something to draw)

            self._figure = Figure(figsize=(6.4, 1.9), dpi=150)
        draw(self._figure, steps)
        file = io.BytesIO()
        self._figure.savefig(file, format="png", transparent=True)
        return file.getvalue()


def draw(figure: Figure, steps: Sequence[tuple[float, Traffic]]) -> None:
    """Draw the last minutes into a figure: the rate as a filled line, the mean latency as points on an axis of its own.

    Parameters
    ----------
    figure
        Is cleared first.
    steps
        How many seconds ago each ended, and what was done in it.
    """
    figure.clear()
    ago = [-seconds / 60 for seconds, _ in steps]
    left, right = figure.subplots(1, 2)
    rates = [traffic.requests_per_s for _, traffic in steps]
    left.fill_between(ago, rates, color=RATE, alpha=0.25, linewidth=0)
    left.plot(ago, rates, color=RATE, linewidth=1.5)
    latencies = [(t, traffic.latency_ms) for t, (_, traffic) in zip(ago, steps, strict=True) if traffic.latency_ms]
    right.plot([t for t, _ in latencies], [ms for _, ms in latencies], ".-", color=LATENCY, linewidth=1, markersize=4)
    for axes, title in ((left, "Requests per second"), (right, "Mean latency in ms")):
        _style(axes, title)
    figure.subplots_adjust(left=0.07, right=0.97, top=0.85, bottom=0.24, wspace=0.18)


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=8, color=GREY, loc="left")
    axes.set_xlim(-5, 0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes ago", fontsize=7, color=GREY)
    axes.xaxis.set_major_formatter(lambda value, _: f"{-value:g}" if value else "now")
    axes.tick_params(labelsize=7, colors=GREY)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GREY)
