"""Small pictures of the pictures that a request was about, to stand beside what the model saw in them."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from PIL.Image import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_SIDE = 160


def thumbnails(inputs: Mapping[str, object]) -> list[bytes]:
    """Return a JPEG of at most 160 x 160 pixels for each picture among the inputs: PIL's and files' names."""
    return [jpeg for value in inputs.values() for jpeg in _of(value)]


def is_picture_file(value: object) -> bool:
    """Tell whether a value is the name of a picture file, by its suffix."""
    return isinstance(value, (str, Path)) and Path(value).suffix.lower() in PICTURE_SUFFIXES


def _of(value: object) -> Iterator[bytes]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _of(each)
    elif is_picture_file(value):
        from PIL import Image  # noqa: PLC0415  (an extra)

        try:
            with Image.open(str(value)) as picture:
                yield _jpeg(picture)
        except OSError:  # a text input may end like a picture's name
            return
    elif (pil := sys.modules.get("PIL.Image")) and isinstance(value, pil.Image):
        yield _jpeg(value)


def _jpeg(picture: Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
