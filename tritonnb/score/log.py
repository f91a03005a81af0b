"""The log of a tier: which of its lines belong to a request, and the traceback among them.

A line reads ``2026-11-23T10:00:00.123Z [worker 1] [REQUEST-ID] text``, with ``[-]`` outside of a request.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r"^\S+ \[worker \d+\] \[(?P<request>[^\]]*)\] ?(?P<text>.*)$")
_HEAD = "Traceback (most recent call last):"
#: The last line of a request: what was asked, the status, how long it took, how much was answered.
_ACCESS = re.compile(r"[A-Z]+ /\S* \d{3} ")
#: A request that has just been answered is among the last lines, in bytes.
_TAIL = 4 * 2**20
_BLOCK = 2**20


def read(file: Path, lines: int | None = None) -> str:
    """Return a log; empty where there is none yet.

    Parameters
    ----------
    file
        The log.
    lines
        Only so many, the last; a log of many requests is large, and the rest of it is not read.
    """
    try:
        if lines is None:
            return file.read_text(errors="replace")
        with file.open("rb") as log:
            begin, tail = log.seek(0, os.SEEK_END), b""
            while begin and tail.count(b"\n") <= lines:
                size = min(begin, _BLOCK)
                begin = log.seek(begin - size)
                tail = log.read(size) + tail
    except FileNotFoundError:
        return ""
    return b"".join(tail.splitlines(keepends=True)[-lines:] if lines else []).decode(errors="replace")


def lines_of(file: Path, request: str) -> list[str]:
    """Return what was logged in a request, without what stands before each line.

    Parameters
    ----------
    file
        The log.
    request
        The request's id.
    """
    try:
        with file.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
            tail = log.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    found = (_LINE.match(line) for line in tail.splitlines() if f"[{request}]" in line)
    return [line["text"] for line in found if line and line["request"] == request]


def has_ended(lines: list[str]) -> bool:
    """Tell whether the lines of a request are all that there will be."""
    return any(map(_ACCESS.match, lines))


def traceback_in(lines: list[str]) -> str:
    """Return the traceback among the lines of a request; empty where there is none."""
    text = "\n".join(line for line in lines if not _ACCESS.match(line))
    begin = text.find(_HEAD)
    return text[begin:] if begin >= 0 else ""
