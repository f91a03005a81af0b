"""What every panel has: its handle, a line that says what happened, and actions that block nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import ipywidgets as widgets

from tritonnb.errors import TritonNbError
from tritonnb.render.html import render

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tritonnb.handle import Served
    from tritonnb.widgets.look import Look

FAILED, DONE, BUSY = "bad", "ok", "busy"


class Panel(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A part of the dashboard.

    Parameters
    ----------
    handle
        The deployment or connection it is about.
    controls
        What is set and pressed; below stands the line that says what happened.
    results
        What stands below that line.
    """

    title: ClassVar[str] = ""

    def __init__(
        self, handle: Served, controls: Sequence[widgets.Widget], results: Sequence[widgets.Widget] = ()
    ) -> None:
        self.handle = handle
        self._note = widgets.HTML()
        super().__init__([*controls, self._note, *results])

    def see(self, look: Look) -> None:
        """Show a new look at the server. Called in the poller's thread."""

    def saved(self, look: Look) -> object:
        """Return what is left of it where no widget can be shown: something with a text and an HTML of its own."""
        return look

    def say(self, text: str, kind: str = DONE) -> None:
        """Say what happened, below the panel.

        Parameters
        ----------
        text
            Empty to take away what was said before.
        kind
            `DONE`, `BUSY` or `FAILED`.
        """
        self._note.value = render("note.html.j2", text=text, kind=kind) if text else ""

    def guarded(self, callback: Callable[[], object]) -> Callable[[object], None]:
        """Return a callback for a widget's event that shows its exception here; in a notebook nobody else would."""

        def run(_: object) -> None:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  (whatever it is, it is to be seen)
                self.fail(error)

        return run

    def fail(self, error: Exception) -> None:
        """Show an exception."""
        self.say(str(error) if isinstance(error, TritonNbError) else f"{type(error).__name__}: {error}", FAILED)

    def act(self, doing: str, action: Callable[[], str], *held: widgets.Widget) -> None:
        """Do what may take long in a thread of its own.

        Parameters
        ----------
        doing
            What is being done, said meanwhile.
        action
            Returns what was done, in a sentence.
        *held
            The buttons that cannot be pressed meanwhile.
        """

        def work() -> None:
            try:
                self.say(action())
            except Exception as error:  # noqa: BLE001  (as above)
                self.fail(error)
            finally:
                for widget in held:
                    widget.disabled = False

        for widget in held:
            widget.disabled = True
        self.say(f"{doing} ...", BUSY)
        threading.Thread(target=work, name=f"tritonnb-{self.title}", daemon=True).start()

    def button(self, text: str, tooltip: str, press: Callable[[], object], style: str = "") -> widgets.Button:
        """Return a button with a tooltip, whose exceptions are shown here."""
        button = widgets.Button(
            description=text, tooltip=tooltip, button_style=style, layout=widgets.Layout(width="auto")
        )
        button.on_click(self.guarded(press))
        return button


class ModelChoice(widgets.Dropdown):  # type: ignore[misc]  # ipywidgets has no types
    """A choice among the models that the server has."""

    options: Any  # traits, which only their own package could type
    value: Any

    def __init__(self) -> None:
        super().__init__(description="Model", options=[], layout=widgets.Layout(width="26em"))

    def offer(self, look: Look) -> None:
        """Take over the models of a look; the one that was chosen stays so."""
        names = tuple(sorted({model.name for model in look.health.models}))
        if names and names != self.options:
            chosen: str = self.value
            self.options = names
            self.value = chosen if chosen in names else names[0]


def answer_while_busy(widget: widgets.Widget) -> None:
    """Let a widget and those in it answer while a cell is running, where the kernel can.

    ipykernel 7.4 sends what a widget is told to the shell that last used it, which is the main one as long as a
    cell made it; its forerunners let the front end choose, and JupyterLab chooses a subshell.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _, default: default  # noqa: SLF001  (there is no other way)
    for child in getattr(widget, "children", ()):
        answer_while_busy(child)
