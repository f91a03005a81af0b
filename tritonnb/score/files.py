"""Files of a tier's folder: for this user alone, and never seen half written."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOT_THE_SCRIPTS = {"__pycache__", "node_modules", "site-packages"}


def write_json(path: Path, content: object) -> None:
    """Write a file at one stroke, readable by this user alone: plan and keys are secret."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    draft.replace(path)


def read_json(path: Path) -> Any:
    """Return what a file holds, or None where there is none."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def newest_change_ns(folder: str) -> int:
    """Return when the latest change of a Python file in and below a folder was, as ``st_mtime_ns``; else 0."""
    return max(_changes_ns(folder), default=0)


def _changes_ns(folder: str) -> Iterator[int]:
    for parent, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name not in _NOT_THE_SCRIPTS and not name.startswith(".")]
        for name in files:
            if name.endswith(".py"):
                with contextlib.suppress(OSError):  # it was removed just now
                    yield os.stat(os.path.join(parent, name)).st_mtime_ns  # noqa: PTH116, PTH118  (there may be many)
