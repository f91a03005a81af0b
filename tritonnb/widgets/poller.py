"""One daemon thread per dashboard that looks at the server again and again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tritonnb.errors import TritonNbError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonnb.widgets.look import Look

EVERY_S = 1.0


class Poller:
    """Calls back with a look at the server every second, until it is stopped or the deployment is gone.

    A thread and not an asyncio task, because a task does not run while a cell does.

    Parameters
    ----------
    look
        Asks the server.
    see
        Is called with every look, in the poller's thread.
    """

    def __init__(self, look: Callable[[], Look], see: Callable[[Look], None]) -> None:
        self._look = look
        self._see = see
        self._ended = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="tritonnb-dashboard", daemon=True)

    def start(self) -> None:
        """Begin; the first look is at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look that is going on. May be called again, and from any thread."""
        self._ended.set()
        self._wanted.set()

    def hurry(self) -> None:
        """Look again at once, because something was changed."""
        self._wanted.set()

    @property
    def alive(self) -> bool:
        """Whether it still looks."""
        return self._thread.is_alive()

    def _poll(self) -> None:
        while not self._ended.is_set():
            self._wanted.clear()
            try:
                look = self._look()
            except TritonNbError:
                pass  # between two servers, as during an update: the next look shows what came of it
            else:
                self._see(look)
                if look.gone:
                    return
            self._wanted.wait(EVERY_S)
