"""The dashboard: all panels over one poller, and what is left of it where no widget can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from tritonnb.errors import SpecError, nearest
from tritonnb.render.html import Badge, render
from tritonnb.widgets.health import HealthPanel
from tritonnb.widgets.latency import LatencyPanel
from tritonnb.widgets.logs import LogPanel
from tritonnb.widgets.look import Looker
from tritonnb.widgets.models import ModelPanel
from tritonnb.widgets.panel import answer_while_busy
from tritonnb.widgets.playground import PlaygroundPanel
from tritonnb.widgets.poller import Poller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tritonnb.handle import Served
    from tritonnb.widgets.look import Look
    from tritonnb.widgets.panel import Panel

PANELS: dict[str, Callable[[Served], Panel]] = {
    "health": HealthPanel,
    "models": ModelPanel,
    "latency": LatencyPanel,
    "playground": PlaygroundPanel,
    "logs": LogPanel,
}


class Dashboard(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A live view of a deployment; ends when it is closed or when the deployment is deleted.

    Parameters
    ----------
    handle
        The deployment or connection.
    parts
        Which panels, by the names in `PANELS`; all where left out.

    Raises
    ------
    SpecError
        There is no such panel.
    """

    def __init__(self, handle: Served, parts: Sequence[str] = ()) -> None:
        for part in parts:
            if part not in PANELS:
                raise SpecError(f"The dashboard has no part {part!r}.", hint=nearest(part, PANELS))
        looker = Looker(handle)
        self._name = handle.name
        self._look = looker.look()
        self._head = widgets.HTML()
        self._panels = [PANELS[part](handle) for part in parts or PANELS]
        if len(self._panels) == 1:
            body: widgets.Widget = self._panels[0]
        else:
            body = widgets.Tab(self._panels, titles=[panel.title for panel in self._panels])
        super().__init__([self._head, body])
        self._poller = Poller(looker.look, self._see)
        self._see(self._look)
        answer_while_busy(self)
        self._poller.start()

    @property
    def polling(self) -> bool:
        """Whether it is still live."""
        return self._poller.alive

    def close(self) -> None:
        """End it and take it off the page."""
        if hasattr(self, "_poller"):  # a base class closes itself when its making fails
            self._poller.stop()
        super().close()

    def _see(self, look: Look) -> None:
        self._look = look
        head = render(
            "head.html.j2", name=self._name, state=Badge(look.health.state), gone=look.gone, models=look.models_text
        )
        if self._head.value != head:
            self._head.value = head
        for panel in self._panels:
            try:
                panel.see(look)
            except Exception as error:  # noqa: BLE001  (one panel's trouble is shown there and stops no other)
                panel.fail(error)

    def _saved(self) -> Any:
        # Of several, the health says most.
        return self._panels[0].saved(self._look)

    def __repr__(self) -> str:
        return f"Dashboard of {self._name!r}\n{self._saved()!r}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return the widget, and what can be read where there are no widgets: on GitHub, in a printout."""
        bundle = super()._repr_mimebundle_(**options)
        data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
        return data | {"text/plain": repr(self), "text/html": self._saved()._repr_html_()}
