"""What can be removed from tritonnb's home because nobody uses it any more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tritonnb import records
from tritonnb.environments import environment_for, find_interpreter
from tritonnb.home import home_folder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Cleaned:
    """What was removed.

    Parameters
    ----------
    deployments
        The names of dead deployments that had left something.
    engines
        The engine environments that this release does not use.
    freed_bytes
        The room on disk that is free now.
    """

    deployments: tuple[str, ...]
    engines: tuple[str, ...]
    freed_bytes: int

    def __str__(self) -> str:
        if not (self.deployments or self.engines):
            return "There was nothing to remove."
        lines = [f"Removed what deployment {name!r} had left." for name in self.deployments]
        lines += [f"Removed the engine {name}, which this release does not use." for name in self.engines]
        return "\n".join([*lines, f"{self.freed_bytes / 2**20:.0f} MB are free now."])


def clean() -> Cleaned:
    """Remove what dead deployments have left, and engine environments of other releases that no server runs from.

    Raises
    ------
    EngineError
        It is not known which engine this release uses here: no suitable Python is found.
    """
    folders = {folder: _size(folder) for folder in home_folder("deployments").iterdir()}
    swept = records.sweep()
    freed = sum(size for folder, size in folders.items() if not folder.exists())
    engines = []
    for folder in _old_engines():
        freed += _size(folder)
        shutil.rmtree(folder, ignore_errors=True)
        engines.append(folder.name)
    return Cleaned(tuple(swept), tuple(engines), freed)


def _old_engines() -> list[Path]:
    current = environment_for(find_interpreter()).folder
    folders = [path for path in current.parent.iterdir() if path.is_dir() and ".building-" not in path.name]
    programs = [process.info["exe"] or "" for process in psutil.process_iter(["exe"])]
    return [
        folder
        for folder in sorted(folders)
        if folder != current and not any(program.startswith(f"{folder.resolve()}/") for program in programs)
    ]


def _size(folder: Path) -> int:
    """Return the room that a folder's removal frees: a file with other links stays on disk."""
    sizes = 0
    for file in folder.rglob("*"):
        try:
            status = file.lstat()
        except FileNotFoundError:  # its deployment is just ending
            continue
        sizes += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return sizes
