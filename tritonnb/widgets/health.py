"""The health panel: how the server and its models are, what they did in the last minutes, and buttons to act."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tritonnb.handle import Deployment
from tritonnb.render.html import render
from tritonnb.widgets.panel import ModelChoice, Panel
from tritonnb.widgets.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonnb.handle import Served
    from tritonnb.widgets.look import Look


class HealthPanel(Panel):
    """How a server is, now and in the last minutes."""

    title = "Health"

    def __init__(self, handle: Served) -> None:
        self._table = widgets.HTML()
        self._chart = Timeline()
        self._model = ModelChoice()
        buttons = [
            self.button("Load", "Load the model, or load it anew", self._load),
            self.button("Unload", "Unload the model: its requests are refused from then on", self._unload),
        ]
        if isinstance(handle, Deployment):
            reload = partial(self._on_deployment, "Reloading", handle.reload, "What changed is loaded.")
            restart = partial(self._on_deployment, "Starting a new server", handle.restart, "A new server serves.")
            buttons += [
                self.button("Reload all", "Take over what changed in the models' files", reload),
                self.button("Restart", "Start a new server; the old one serves until it is ready", restart),
                self.button("Stop ...", "Delete the deployment", self._ask, "danger"),
            ]
        self._buttons = buttons
        self._sure = widgets.HBox(
            [
                widgets.Label("Stop the deployment, and remove all that was made for it?"),
                self.button("Yes, stop it", "Delete the deployment and all that was made for it", self._stop, "danger"),
                self.button("No", "Leave it running", self._leave),
            ],
            layout=widgets.Layout(display="none"),
        )
        self._actions = widgets.HBox([self._model, *buttons], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__(handle, [self._table, self._chart, self._actions, self._sure])

    def see(self, look: Look) -> None:
        """Show a look."""
        html = look._repr_html_()
        if self._table.value != (framed := render("panel.html.j2", content=html)):
            self._table.value = framed
        if look.steps:
            self._chart.show(look.steps)
        self._model.offer(look)
        if look.gone:
            self._chart.layout.display = self._actions.layout.display = self._sure.layout.display = "none"

    def _load(self) -> None:
        self._on_model("Loading", self.handle.load, "is loaded")

    def _unload(self) -> None:
        self._on_model("Unloading", self.handle.unload, "is unloaded")

    def _on_model(self, doing: str, action: Callable[[str], None], done: str) -> None:
        model = self._model.value
        if model is None:
            self.say("There is no model yet.")
            return

        def run() -> str:
            action(model)
            return f"Model {model!r} {done}."

        self.act(f"{doing} {model!r}", run, *self._buttons[:2])

    def _on_deployment(self, doing: str, action: Callable[[], None], done: str) -> None:
        def run() -> str:
            action()
            return done

        self.act(doing, run, *self._buttons[2:])

    def _ask(self) -> None:
        self.say("")
        self._sure.layout.display = ""

    def _stop(self) -> None:
        self._leave()
        self._on_deployment("Stopping", self.handle.delete, "Stopped and removed.")

    def _leave(self) -> None:
        self._sure.layout.display = "none"
