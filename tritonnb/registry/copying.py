"""Copying what is registered: real copies, so that a later edit of the original does not reach them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonnb.errors import RegistryError
from tritonnb.repository import files_below
from tritonnb.repository.external_data import external_files

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 20  # bytes between two looks at the clock, and at Ctrl-C
_WRITABLE = 0o222


@dataclass(frozen=True)
class Copied:
    """A copy that was made.

    Parameters
    ----------
    place
        The name of the file or folder that was made.
    sha256
        Of the files' names and contents.
    size
        Of all files, in bytes.
    """

    place: str
    sha256: str
    size: int


def copy(source: Path, base: Path, target: Path, report: Callable[[str, float | None], None]) -> Copied:
    """Copy a file with what it needs beside it, or a folder without clutter, and make it read-only.

    Parameters
    ----------
    source
        The file or folder, an absolute path.
    base
        A folder above it; the names below are kept.
    target
        The folder to copy into.
    report
        Told what is copied, and what share of the whole is.

    Raises
    ------
    RegistryError
        A file is missing that the ONNX file names.
    RepositoryError
        A link that leads nowhere, or something that is no file.
    OSError
        Something could not be read or written.
    """
    files, folders = _files(source)
    prefix = source.parent.relative_to(base)
    total = sum(file.stat().st_size for file in files.values())
    done, listing = 0, hashlib.sha256()
    for folder in sorted(folders):
        (target / prefix / folder).mkdir(parents=True, exist_ok=True)
    for place, file in sorted(files.items()):
        copy_of = target / prefix / place
        copy_of.parent.mkdir(parents=True, exist_ok=True)
        content = hashlib.sha256()
        with file.open("rb") as reader, copy_of.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)
                content.update(chunk)
                done += len(chunk)
                report(f"copying {file.name}", min(done / (total or 1), 1.0))
            writer.flush()
            os.fsync(writer.fileno())  # a registered model is on disk, whatever happens to the machine
        copy_of.chmod(file.stat().st_mode & 0o777 & ~_WRITABLE)
        listing.update(f"{content.hexdigest()}  {prefix / place}\n".encode())
    return Copied((prefix / source.name).parts[0], listing.hexdigest(), done)


def _files(source: Path) -> tuple[dict[PurePosixPath, Path], set[PurePosixPath]]:
    """Return what is to be copied by its place beside the source."""
    if source.is_dir():
        files, folders = files_below(source)
        here = PurePosixPath(source.name)
        return {here / place: file for place, file in files.items()}, {here, *(here / folder for folder in folders)}
    files = {PurePosixPath(source.name): source}
    if source.suffix.lower() == ".onnx":
        for name in external_files(source):
            if not (beside := source.parent / name).is_file():
                raise RegistryError(
                    f"{source} keeps weights in {name!r}, which is not beside it.", hint="put the file back."
                )
            files[PurePosixPath(name)] = beside
    return files, set()
