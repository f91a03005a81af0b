"""What can be removed from tritonnb's home because nobody uses it any more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tritonnb import records
from tritonnb.environments import environment_for, find_interpreter, shown
from tritonnb.home import home_folder
from tritonnb.overlays import overlays, remove_overlay, size_of, users_of

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
    overlays
        The environments of extra packages that were made for engines that are gone.
    freed_bytes
        The room on disk that is free now.
    """

    deployments: tuple[str, ...]
    engines: tuple[str, ...]
    overlays: tuple[str, ...]
    freed_bytes: int

    def __str__(self) -> str:
        if not (self.deployments or self.engines or self.overlays):
            return "There was nothing to remove."
        lines = [f"Removed what deployment {name!r} had left." for name in self.deployments]
        lines += [f"Removed the engine {name}, which this release does not use." for name in self.engines]
        lines += [f"Removed the extra packages {name}, whose engine is gone." for name in self.overlays]
        return "\n".join([*lines, f"{self.freed_bytes / 2**20:.0f} MB are free now."])


def clean() -> Cleaned:
    """Remove what dead deployments have left, and engine environments of other releases that nothing runs from.

    Raises
    ------
    EngineError
        It is not known which engine this release uses here: no suitable Python is found.
    """
    folders = {folder: size_of(folder) for folder in home_folder("deployments").iterdir()}
    swept = records.sweep()
    freed = sum(size for folder, size in folders.items() if not folder.exists())
    engines, extra = [], []
    for folder in _old_engines():
        on_it = [overlay for overlay in overlays() if overlay.folder.name.startswith(f"{folder.name}-")]
        if any(overlay.kept_because for overlay in on_it):
            continue
        freed += size_of(folder) + sum(map(remove_overlay, on_it))
        shutil.rmtree(folder, ignore_errors=True)
        engines.append(folder.name)
        extra += [shown(overlay.requirements) for overlay in on_it]
    return Cleaned(tuple(swept), tuple(engines), tuple(extra), freed)


def _old_engines() -> list[Path]:
    current = environment_for(find_interpreter()).folder
    folders = [path for path in current.parent.iterdir() if path.is_dir() and ".building-" not in path.name]
    programs = [process.info["exe"] or "" for process in psutil.process_iter(["exe"])]
    return [
        folder
        for folder in sorted(folders)
        if folder != current
        and not users_of(folder)  # an entry script's worker is a process of the Python that the engine is made from
        and not any(program.startswith(f"{folder.resolve()}/") for program in programs)
    ]
