"""Progress of what takes over two seconds: a bar in a notebook, a line in a terminal, nothing where nobody looks."""

from __future__ import annotations

import html
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

AFTER_S = 2.0
EVERY_S = 0.2


class Progress:
    """Shows what is going on, from the second second on; a context manager that takes the bar away at the end.

    ``TRITONNB_NONINTERACTIVE=1`` silences it, for notebooks whose output is compared.

    Parameters
    ----------
    title
        What is being done.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._text = ""
        self._fraction: float | None = None
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._drawn_text = ""
        self._display: Any = None
        # Another thread's bar would come up below whatever cell was run last.
        threaded = threading.current_thread() is not threading.main_thread()
        self._silent = threaded or os.environ.get("TRITONNB_NONINTERACTIVE") == "1"

    def report(self, text: str, fraction: float | None) -> None:
        """Say what is being done now and how much of the whole is done (0 to 1; None: unknown)."""
        self._text, self._fraction = text, fraction
        self.tick()

    def tick(self) -> None:
        """Draw, if it is time to; called again and again by whoever waits."""
        now = time.monotonic()
        if self._silent or now - self._began < AFTER_S or now - self._drawn_at < EVERY_S:
            return
        self._drawn_at = now
        if _in_notebook():
            self._draw_bar(int(now - self._began))
        else:
            self._draw_line(int(now - self._began))

    def _draw_bar(self, seconds: int) -> None:
        from IPython.display import display  # noqa: PLC0415  (only in a notebook)

        value = "" if self._fraction is None else f' value="{self._fraction:.3f}"'
        bar = _html(f"<progress{value}></progress> {html.escape(f'{self._title}: {self._text} ({seconds} s)')}")
        if self._display is None:
            self._display = display(bar, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._display.update(bar)

    def _draw_line(self, seconds: int) -> None:
        share = "" if self._fraction is None else f" {self._fraction:.0%}"
        line = f"{self._title}: {self._text}{share}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line} ({seconds} s)")
        elif self._text != self._drawn_text:  # a log file wants each step once
            sys.stderr.write(line + "\n")
        self._drawn_text = self._text
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.update(_html(""))
        elif self._drawn_text and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython  # noqa: PLC0415  (only where IPython is in use already)

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _html(text: str) -> Any:
    from IPython.display import HTML  # noqa: PLC0415  (only in a notebook)

    return HTML(text)  # type: ignore[no-untyped-call]
