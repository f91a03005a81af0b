"""Tracebacks as the author of a script wants them: without the host's frames, under the script's own name."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

HERE = str(Path(__file__).parent.parent)


class Tracebacks:
    """Writes tracebacks of one script.

    Parameters
    ----------
    path
        The script.
    shown_as
        What its author calls it, such as ``the cell``.
    """

    def __init__(self, path: Path, shown_as: str) -> None:
        self._path = path
        self._shown_as = shown_as

    def of(self, error: BaseException) -> str:
        """Return the traceback of an exception."""
        told = traceback.TracebackException.from_exception(error, compact=True)
        pending: list[traceback.TracebackException | None] = [told]
        while pending:
            if each := pending.pop():
                each.stack = traceback.StackSummary.from_list(_foreign(each.stack))
                pending += [each.__cause__, each.__context__]
        return self._named("".join(told.format()))

    def of_thread(self, thread: int) -> str:
        """Return where a thread is, from the script's own lines on."""
        frames = _foreign(traceback.extract_stack(sys._current_frames().get(thread)))  # noqa: SLF001  (no other way)
        first = next((n for n, frame in enumerate(frames) if frame.filename == str(self._path)), 0)
        return self._named("".join(traceback.format_list(frames[first:])))

    def _named(self, text: str) -> str:
        """Call the script what its author calls it; a file keeps its whole path."""
        if self._shown_as == self._path.name:
            return text
        return text.replace(f'File "{self._path}"', f'File "{self._shown_as}"')


def _foreign(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if not frame.filename.startswith((HERE, "<frozen importlib"))]
