"""A matplotlib figure that shows itself in a notebook, and colours that are read on white, on dark and in print."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Each has a contrast of at least 3.7 to white and to the #111111 of JupyterLab's dark theme (text: 4.2), because
# the figure is transparent and a notebook does not tell which theme is on. Markers, lines and hatches tell them apart
# in print.
TEXT = "#777777"
COLORS = ("#3a87d0", "#d0650c", "#17916a", "#a868c8", "#c2497f", "#8a8000")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "")

_DOTS_PER_INCH = 144  # twice what is shown, for displays of a high density


class Chart(Figure):
    """A transparent figure, made without pyplot: nothing is kept of it, and any thread may draw one.

    Parameters
    ----------
    alt
        What it shows, in a sentence, for those who cannot see it.
    width, height
        In inches.
    """

    def __init__(self, alt: str, width: float = 7.0, height: float = 4.2) -> None:
        super().__init__(figsize=(width, height), facecolor="none", layout="constrained")
        self.alt = alt

    def png(self) -> bytes:
        """Return it as the bytes of a PNG file."""
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=_DOTS_PER_INCH)
        return out.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        return self.png(), {"width": self._pixels()[0], "height": self._pixels()[1], "alt": self.alt}

    def _pixels(self) -> tuple[int, int]:
        width, height = self.get_size_inches() * _DOTS_PER_INCH / 2
        return round(width), round(height)


def image(chart: Chart) -> str:
    """Return a chart as HTML: an image that holds its own bytes, with its text for those who cannot see it."""
    data = base64.b64encode(chart.png()).decode()
    return f'<img alt="{html.escape(chart.alt)}" width="{chart._pixels()[0]}" src="data:image/png;base64,{data}">'  # noqa: SLF001  (of the same module)


def dress(axes: Axes, *, title: str, x: str, y: str, values: Literal["x", "y"] = "y") -> None:
    """Give axes their words and the colours of this module.

    Parameters
    ----------
    axes
        To be dressed, after all was drawn.
    title, x, y
        The words.
    values
        The axis of what was measured, which gets a grid: ``"x"`` or ``"y"``.
    """
    axes.set_facecolor("none")
    axes.set_title(title, color=TEXT, fontsize=10, loc="left")
    axes.set_xlabel(x, color=TEXT, fontsize=9)
    axes.set_ylabel(y, color=TEXT, fontsize=9)
    axes.tick_params(colors=TEXT, which="both", labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_color(TEXT)
        spine.set_visible(side in {"left", "bottom"})
    axes.grid(visible=True, axis=values, color=TEXT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def logarithmic(axes: Axes) -> None:
    """Give axes a logarithmic x with plain numbers, after all was drawn."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    within_a_decade = high < 10 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8) if within_a_decade else (1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def legend(axes: Axes, **where: Any) -> None:
    """Give axes a legend without a frame, in the colour of the text; none where nothing was drawn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=TEXT, fontsize=8, **where)
