"""The last minutes as a small chart: requests a second, and how long they took."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING

import ipywidgets as widgets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from tritonnb.widgets.traffic import Traffic

REDRAW_S = 5.0


class Timeline(widgets.Image):  # type: ignore[misc]  # ipywidgets has no types
    """Requests a second and their mean latency over the last five minutes; drawn again when the data changed."""

    def __init__(self) -> None:
        super().__init__(format="png", layout=widgets.Layout(max_width="100%", width="700px", display="none"))
        self._drawn: object = None
        self._drawn_at = 0.0
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
        from matplotlib.figure import Figure  # noqa: PLC0415  (not before there is something to draw)

        figure = Figure(figsize=(7.0, 2.0), facecolor="none")
        draw(figure, steps)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        return file.getvalue()


def draw(figure: Figure, steps: Sequence[tuple[float, Traffic]]) -> None:
    """Draw the last minutes into a figure: the rate as a filled line, beside it the mean latency as points.

    Parameters
    ----------
    figure
        An empty one.
    steps
        How many seconds ago each ended, and what was done in it.
    """
    from tritonnb.measure.chart import COLORS, dress  # noqa: PLC0415  (matplotlib)

    left, right = figure.subplots(1, 2)
    ago = [-seconds / 60 for seconds, _ in steps]
    rates = [traffic.requests_per_s for _, traffic in steps]
    left.fill_between(ago, rates, color=COLORS[0], alpha=0.25, linewidth=0)
    left.plot(ago, rates, color=COLORS[0], linewidth=1.5)
    answered = [(-seconds / 60, traffic.latency_ms) for seconds, traffic in steps if traffic.latency_ms is not None]
    right.plot([t for t, _ in answered], [ms for _, ms in answered], ".-", color=COLORS[1], linewidth=1, markersize=4)
    for axes, title in ((left, "Requests per second"), (right, "Mean latency in ms")):
        axes.set_xlim(-5, 0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{-value:g}" if value else "now")
        dress(axes, title=title, x="minutes ago", y="")
    # By hand: matplotlib's own layouts take as long as all the rest, and this is drawn every five seconds.
    figure.subplots_adjust(left=0.06, right=0.97, top=0.86, bottom=0.24, wspace=0.16)
