"""What is seen in a notebook: health, models, batch latency, a playground and logs, live. Core ipywidgets only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonnb.widgets.look import Look, Looker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonnb.handle import Served
    from tritonnb.widgets.board import Dashboard


def dashboard(handle: Served, parts: Sequence[str] = ()) -> Dashboard | Look:
    """Return a live view of a deployment; where ipywidgets is missing, how it is right now.

    Parameters
    ----------
    handle
        The deployment or connection.
    parts
        Some of ``"health"``, ``"models"``, ``"latency"``, ``"playground"``, ``"logs"``; all where left out.

    Raises
    ------
    SpecError
        There is no such part.
    """
    try:
        from tritonnb.widgets.board import Dashboard  # noqa: PLC0415  (ipywidgets, which may be missing)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ipywidgets":
            raise
        return Looker(handle).look()
    return Dashboard(handle, parts)
