"""A script's traceback, as its author wants to read it: the error first, then where in the script it happened."""

from __future__ import annotations

import re
from pathlib import Path

from tritonnb.score.cell import SHOWN_AS

_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(
    r'^[ \t]*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>\S+))?\n'
    r"(?:[ \t]+(?!File \")(?P<code>\S.*))?",
    re.MULTILINE,
)
#: Frames of Python itself and of libraries: the script's own say more.
_NOT_THE_SCRIPTS = re.compile(r"site-packages|/lib/python3|^<frozen ")


def reason(traceback: str, script: str, shown_as: str) -> str:
    """Return the error of a traceback and below it the lines of the script's own files that led to it.

    Parameters
    ----------
    traceback
        Python's text, in which a cell's script is called what messages call it.
    script, shown_as
        The script's file, and what messages call it.
    """
    last = traceback.rpartition(_HEAD)[2]  # of errors one out of the other
    lines = [line for line in last.splitlines() if line.strip()]
    # The error begins at the last line without indentation that follows the frames; its text may have more lines.
    starts = [number for number, line in enumerate(lines) if not line.startswith((" ", "\t"))]
    error = "\n".join(lines[starts[0] :]) if starts else (lines[-1].strip() if lines else "")
    own = [frame for frame in _FRAME.finditer(last) if not _NOT_THE_SCRIPTS.search(frame["file"])]
    return "\n".join([error, *(_line(frame, script, shown_as) for frame in own)])


def _line(frame: re.Match[str], script: str, shown_as: str) -> str:
    of_script = frame["file"] in (script, shown_as)
    if of_script and shown_as == SHOWN_AS:
        where = f"line {frame['line']} of the cell"
    else:
        where = f"{shown_as if of_script else Path(frame['file']).name}, line {frame['line']}"
    inside = f", in {frame['function']}" if frame["function"] not in (None, "<module>") else ""
    return f"  {where}{inside}" + (f": {frame['code'].strip()}" if frame["code"] else "")
