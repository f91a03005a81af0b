"""The log panel: the last lines of the server's log as they come, filtered by level and by text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tritonnb.handle import Deployment
from tritonnb.render.html import render
from tritonnb.widgets.panel import Panel

if TYPE_CHECKING:
    from tritonnb.handle import Served
    from tritonnb.widgets.look import Look

SHOWN = 400
LEVELS = {"all": "", "info and worse": "IWEF", "warnings and worse": "WEF", "errors": "EF"}
_LEVEL = re.compile(r"([IWEF])\d{4} ")


class LogPanel(Panel):
    """The server's log, followed."""

    title = "Logs"

    def __init__(self, handle: Served) -> None:
        self._level = widgets.Dropdown(description="Level", options=list(LEVELS), layout=widgets.Layout(width="18em"))
        self._text = widgets.Text(
            description="Filter",
            placeholder="a model's name, a word",
            continuous_update=True,
            layout=widgets.Layout(width="22em"),
        )
        self._pause = widgets.ToggleButton(value=False, description="Pause", tooltip="Stop following the log")
        self._lines = widgets.HTML()
        self._log = ""
        refilter = self.guarded(self._show)
        for control in (self._level, self._text):
            control.observe(refilter, "value")
        controls = widgets.HBox([self._level, self._text, self._pause], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__(handle, [controls, self._lines])
        if not isinstance(handle, Deployment):
            self.say("The log of a server that somebody else runs is theirs.")

    def see(self, look: Look) -> None:
        """Read the log again, unless paused."""
        if self._pause.value or look.gone or not isinstance(self.handle, Deployment):
            return
        log = str(self.handle.get_logs())
        if log != self._log:
            self._log = log
            self._show()

    def _show(self) -> None:
        lines = filtered(self._log, LEVELS[self._level.value], self._text.value)
        self._lines.value = render("log.html.j2", lines=lines[-SHOWN:], left_out=max(0, len(lines) - SHOWN))


def filtered(log: str, levels: str, text: str) -> list[str]:
    """Return the lines of a log with one of the levels and a text in them; a line without a level goes with the last.

    Parameters
    ----------
    log
        As Triton writes it.
    levels
        Triton's letters of the levels wanted (``"WEF"``); empty for all.
    text
        Regardless of case; empty for any.
    """
    lines = []
    wanted = True
    for line in log.splitlines():
        if levels and (level := _LEVEL.match(line)):
            wanted = level[1] in levels
        if wanted and text.lower() in line.lower():
            lines.append(line)
    return lines
