"""What environments of extra packages there are, which deployments use them, and removing those that none does."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonnb import records
from tritonnb.environments import FACTS, OVERLAYS, remove_leftovers, shown
from tritonnb.home import home_folder
from tritonnb.render.text import text_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JUST_USED_S = 60.0  # a deployment that is being made names its environment only when its server is started


@dataclass(frozen=True)
class BuiltOverlay:
    """An environment of extra packages on disk.

    Parameters
    ----------
    folder
        Where it is.
    requirements
        What it was asked for.
    used
        When it was last asked for, in seconds since the epoch.
    used_by
        The names of the deployments that use it.
    """

    folder: Path
    requirements: tuple[str, ...]
    used: float
    used_by: tuple[str, ...]

    @property
    def kept_because(self) -> str:
        """Why it is not to be removed; empty where it may be."""
        if self.used_by:
            return f"used by {', '.join(self.used_by)}"
        return "asked for within the last minute" if time.time() - self.used < JUST_USED_S else ""


class BuiltOverlays(list[BuiltOverlay]):
    """Environments of extra packages, those last used at the end."""

    def __str__(self) -> str:
        if not self:
            return "No environment of extra packages."
        rows = [
            (
                overlay.folder.name,
                shown(overlay.requirements),
                _megabytes(size_of(overlay.folder)),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(overlay.used)),
                ", ".join(overlay.used_by) or "-",
            )
            for overlay in self
        ]
        count = f"{len(self)} environment{'' if len(self) == 1 else 's'} of extra packages"
        return text_table(count, rows, ("Name", "Packages", "Size", "Last used", "Used by"))


@dataclass(frozen=True)
class Pruned:
    """What was removed, and what stays.

    Parameters
    ----------
    removed, kept
        Environments.
    freed_bytes
        The room on disk that is free now.
    """

    removed: tuple[BuiltOverlay, ...]
    kept: tuple[BuiltOverlay, ...]
    freed_bytes: int

    def __str__(self) -> str:
        lines = [f"Removed {overlay.folder.name} ({shown(overlay.requirements)})." for overlay in self.removed]
        lines += [f"{kept.folder.name} ({shown(kept.requirements)}) stays: {kept.kept_because}." for kept in self.kept]
        if self.freed_bytes:
            lines.append(f"{_megabytes(self.freed_bytes)} are free now.")
        return "\n".join(lines) or "There was nothing to remove."


def overlays() -> BuiltOverlays:
    """Return the environments of extra packages that are on disk."""
    found = []
    for facts in home_folder(OVERLAYS).glob(f"*/{FACTS}"):
        with contextlib.suppress(FileNotFoundError):  # just removed
            used = facts.stat().st_mtime
            wanted = tuple(json.loads(facts.read_text())["requirements"])
            found.append(BuiltOverlay(facts.parent, wanted, used, users_of(facts.parent)))
    return BuiltOverlays(sorted(found, key=lambda overlay: overlay.used))


def prune() -> Pruned:
    """Remove the environments of extra packages that no deployment uses."""
    records.sweep()
    shelf = home_folder(OVERLAYS)
    before = size_of(shelf)
    found = overlays()
    removed = tuple(overlay for overlay in found if not overlay.kept_because)
    for overlay in removed:
        remove_overlay(overlay)
    remove_leftovers(shelf)
    return Pruned(removed, tuple(overlay for overlay in found if overlay not in removed), before - size_of(shelf))


def remove_overlay(overlay: BuiltOverlay) -> int:
    """Remove an environment at one stroke and return how many bytes that frees."""
    freed = size_of(overlay.folder)
    gone = overlay.folder.with_name(f"{overlay.folder.name}.building-gone")
    with contextlib.suppress(FileNotFoundError):  # another process removes it, too
        overlay.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    return freed


def users_of(environment: Path) -> tuple[str, ...]:
    """Return the names of the deployments whose server, container or entry script runs from an environment."""
    return tuple(sorted({name for name, plan in _plans() if f"{environment}/" in plan or f'{environment}"' in plan}))


def _plans() -> Iterator[tuple[str, str]]:
    """Yield what runs, as the deployments and tiers have written it down, with the deployments' names."""
    for kind, file in (("deployments", "job.json"), ("deployments", "container.json"), ("score", "plan.json")):
        for plan in home_folder(kind).glob(f"*/{file}"):
            with contextlib.suppress(FileNotFoundError):  # it is just ending
                yield plan.parent.name.rpartition("-")[0], plan.read_text()


def size_of(folder: Path) -> int:
    """Return the room that a folder's removal frees, in bytes: a file with other links stays on disk."""
    sizes = 0
    for file in folder.rglob("*"):
        try:
            status = file.lstat()
        except FileNotFoundError:  # its deployment is just ending
            continue
        sizes += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return sizes


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
