"""Wheels made in a few lines, for tests that install packages without a network."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    requires: Iterable[str] = (),
    code: str = "",
    program: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel of one module and return its file.

    Parameters
    ----------
    folder
        Where to.
    name, version, requires, tag
        The package's metadata.
    code
        What the module holds beside its ``VERSION``.
    program
        The name of a program that calls the module's ``main``.
    """
    about = f"{name}-{version}.dist-info"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n{code}")
        wheel.writestr(f"{about}/METADATA", "\n".join(["Metadata-Version: 2.1", *metadata, ""]))
        wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        if program:
            wheel.writestr(f"{about}/entry_points.txt", f"[console_scripts]\n{program} = {name}:main\n")
        wheel.writestr(f"{about}/RECORD", "")
    return file
