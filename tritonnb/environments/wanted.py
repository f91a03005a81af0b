"""The extra packages that somebody wants: what identifies them, and where their overlay's place is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonnb.environments.building import build_once
from tritonnb.errors import SpecError
from tritonnb.home import home
from tritonnb.requirements import local_source, requirements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tritonnb.environments.building import Report

#: In tritonnb's home.
OVERLAYS = "overlays"
#: Tells what an overlay was built from; its time of change is when it was last asked for.
FACTS = "overlay.json"
_NO_SOURCES = (".git", "__pycache__", "build", "*.egg-info", ".venv")


@dataclass(frozen=True)
class Wanted:
    """Packages to be had together.

    Parameters
    ----------
    requirements
        In the form of `tritonnb.requirements.requirements`, sorted.
    sources
        The local files and folders among them, by requirement.
    contents
        Digests of these.
    """

    requirements: tuple[str, ...]
    sources: Mapping[str, Path]
    contents: tuple[str, ...]

    @classmethod
    def of(cls, pip: Iterable[str]) -> Wanted:
        """Read requirements and look at the local files that they name.

        Raises
        ------
        SpecError
            One is malformed, or names a file that is not there.
        """
        wanted = tuple(sorted(requirements(pip)))
        sources = {one: source for one in wanted if (source := local_source(one))}
        return cls(wanted, sources, tuple(_content(source) for source in sources.values()))

    def __str__(self) -> str:
        """Return them as people are to see them."""
        return shown(self.requirements)

    def folder(self, prefix: str, base: object) -> Path:
        """Return the place of the overlay with these packages on a base.

        Parameters
        ----------
        prefix
            What its name begins with.
        base
            What identifies the base, as JSON takes it.
        """
        recipe = json.dumps([base, self.requirements, self.contents])
        return home() / OVERLAYS / f"{prefix}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"

    def build(self, folder: Path, build: Callable[[Path], None], report: Report) -> None:
        """Build the overlay of these packages where it is missing, and note that it was asked for.

        Parameters
        ----------
        folder
            Its place.
        build
            Builds it as ``env`` in the folder that it is given.
        report
            Told how the build goes.
        """

        def build_with_facts(draft: Path) -> None:
            build(draft)
            (draft / "env" / FACTS).write_text(json.dumps({"requirements": self.requirements}))
            report("environment built", 1.0)

        build_once(folder, build_with_facts, f"the environment for {self}", report)
        try:
            os.utime(folder / FACTS)
        except FileNotFoundError:  # removed this very moment, for want of a user
            self.build(folder, build, report)

    def from_copies(self, draft: Path) -> list[str]:
        """Return the requirements with projects' folders copied: a build writes into the folder that it builds from."""
        found = []
        for requirement in self.requirements:
            source = self.sources.get(requirement)
            if source and source.is_dir():
                copy = draft / "sources" / source.name
                shutil.copytree(source, copy, dirs_exist_ok=True)
                found.append(requirement.replace(str(source), str(copy)))
            else:
                found.append(requirement)
        return found


def shown(wanted: Iterable[str]) -> str:
    """Return requirements in a line: files by their names, without the passwords of URLs."""
    return ", ".join(
        re.sub(r"//[^/@\s]+@", "//****@", one.rpartition("/")[2] if one.startswith("/") else one) for one in wanted
    )


def _content(source: Path) -> str:
    """Return a digest of a local file, or of all files of a folder."""
    if not source.exists():
        raise SpecError(f"There is no {source}, which the requirements name.", hint="check `environment.pip`.")
    digest = hashlib.sha256()
    if source.is_dir():
        left_out = {path for pattern in _NO_SOURCES for path in source.rglob(pattern)}
        paths = [path for path in sorted(source.rglob("*")) if left_out.isdisjoint((path, *path.parents))]
    else:
        paths = [source]
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(f"{path.relative_to(source)}\0".encode() + content)
    return digest.hexdigest()
