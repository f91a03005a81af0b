"""Sample models as files: each built once, kept in tritonnb's cache, built anew where it is damaged."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.errors import HomeError
from tritonnb.home import home_folder

if TYPE_CHECKING:
    from collections.abc import Callable


def cached(name: str, recipe: int, build: Callable[[], bytes]) -> Path:
    """Return a model's file in the cache.

    Parameters
    ----------
    name
        Of the model.
    recipe
        To be raised whenever what is built changes.
    build
        Makes the file's content.

    Raises
    ------
    HomeError
        The cache cannot be written.
    """
    model = home_folder("cache", "samples") / f"{name}-{recipe}.onnx"
    checksum = model.with_name(model.name + ".sha256")
    try:
        if model.is_file() and checksum.is_file() and checksum.read_bytes() == _checksum(model):
            return model
        write(model, build())
        write(checksum, _checksum(model))
    except OSError as error:
        raise HomeError(
            f"the sample model could not be kept at {model}: {error.strerror or error}.",
            hint="make room there, or set the environment variable TRITONNB_HOME to another folder.",
        ) from error
    return model


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half-written, not even where two processes write it at once."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        unfinished = Path(file.name)
        try:
            file.write(content)
            file.close()
            unfinished.chmod(0o644)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink()
            raise


def sha256(content: bytes) -> str:
    """Return the checksum as the command of that name shows it."""
    return hashlib.sha256(content).hexdigest()


def _checksum(path: Path) -> bytes:
    """Return the line that ``sha256sum -c`` reads."""
    return f"{sha256(path.read_bytes())}  {path.name}\n".encode()
