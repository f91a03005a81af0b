"""The batch latency panel: a sweep that draws itself, and can be stopped at any time."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from tritonnb.errors import SpecError
from tritonnb.render.html import render, table
from tritonnb.widgets.panel import BUSY, ModelChoice, Panel

if TYPE_CHECKING:
    from tritonnb.handle import Served
    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report
    from tritonnb.widgets.look import Look


class LatencyPanel(Panel):
    """How long a model takes at each batch size and concurrency."""

    title = "Batch latency"

    def __init__(self, handle: Served) -> None:
        fitting = {"layout": widgets.Layout(width="16em"), "style": {"description_width": "7em"}}
        self._model = ModelChoice()
        self._batches = widgets.Text("1, 2, 4", description="Batch sizes", **fitting)
        self._concurrency = widgets.Text("1, 2", description="Concurrency", **fitting)
        self._budget = widgets.BoundedFloatText(30.0, min=1, max=3600, description="Seconds", **fitting)
        self._run = self.button(
            "Run", "Measure the model at each of these batch sizes and loads", self._start, "primary"
        )
        self._stop = self.button("Stop", "End the measurement; what was measured stays", self._end)
        self._stop.disabled = True
        self._chart = widgets.Image(
            format="png", layout=widgets.Layout(max_width="100%", width="760px", display="none")
        )
        self._table = widgets.HTML()
        self._ended = threading.Event()
        self.report: Report | None = None
        rows = (
            widgets.HBox([self._model, self._budget], layout=widgets.Layout(flex_flow="row wrap")),
            widgets.HBox(
                [self._batches, self._concurrency, self._run, self._stop], layout=widgets.Layout(flex_flow="row wrap")
            ),
        )
        super().__init__(handle, rows, [self._chart, self._table])

    def see(self, look: Look) -> None:
        """Take over the list of models; a measurement ends where the deployment does."""
        self._model.offer(look)
        if look.gone:
            self._ended.set()
            self._run.disabled = True

    def _start(self) -> None:
        if self._model.value is None:
            self.say("There is no model yet.")
            return
        asked = {
            "batch_sizes": _whole(self._batches),
            "concurrency": _whole(self._concurrency),
            "budget_s": self._budget.value,
        }
        self._ended.clear()
        self._stop.disabled = False
        model: str = self._model.value
        self.act(f"Measuring {model!r}", lambda: self._measure(model, **asked), self._run)

    def _end(self) -> None:
        self._stop.disabled = True
        self._ended.set()

    def _measure(self, model: str, **asked: Any) -> str:
        points: list[Point] = []

        def on_window(point: Point) -> None:
            self.say(f"Measuring {model!r}: batch {point.batch_size}, {point.load_text} ...", BUSY)
            if self._ended.is_set():
                # The sweep's own word for it: it ends, and what was measured is returned.
                raise KeyboardInterrupt

        def on_point(point: Point) -> None:
            from tritonnb.measure.report import Report  # noqa: PLC0415  (numpy, only when something is measured)

            points.append(point)
            self._show(Report(model, tuple(points)))
            on_window(point)

        try:
            report = self.handle.measure(model, on_point=on_point, on_window=on_window, **asked)
        except KeyboardInterrupt:
            return "Stopped before the first point was measured."
        finally:
            self._stop.disabled = True
        self._show(report)
        self._table.value += render("files.html.j2", files=_files(report))
        stopped = ["Stopped."] if self._ended.is_set() else []
        return " ".join([*stopped, *report.recommend().sentences])

    def _show(self, report: Report) -> None:
        self.report = report
        self._chart.value = report.figure().png()
        self._chart.layout.display = ""
        self._table.value = render("panel.html.j2", content=table(report._title(), *report._table()))  # noqa: SLF001  (without the chart)


def _whole(text: widgets.Text) -> list[int]:
    try:
        return [int(word) for word in text.value.replace(",", " ").split()] or [1]
    except ValueError:
        raise SpecError(
            f"{text.description} {text.value!r} cannot be read.", hint="write whole numbers: 1, 2, 4."
        ) from None


def _files(report: Report) -> dict[str, str]:
    """Return a report's files by name, as addresses that hold them: a browser saves them without a server."""
    contents = {
        f"{report.model}.csv": ("text/csv", report.to_csv().encode()),
        f"{report.model}.png": ("image/png", report.figure().png()),
    }
    return {name: f"data:{kind};base64,{base64.b64encode(data).decode()}" for name, (kind, data) in contents.items()}
