"""Small pictures of the pictures that a request was about, to stand beside what the model saw in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.client.pictures import is_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

#: What a text must end in to be taken for the name of a picture's file.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_SIDE = 160


def thumbnails(inputs: Mapping[str, object]) -> list[bytes]:
    """Return a JPEG of at most 160 x 160 pixels for each picture among the inputs: PIL's and files' names."""
    values = [inputs[name] for name in inputs]  # `values` of a DataFrame is no method
    given: list[Any] = [each for value in values for each in (value if isinstance(value, (list, tuple)) else [value])]
    pictures = [each for each in given if is_picture(each) or (isinstance(each, str) and each.endswith(SUFFIXES))]
    return [jpeg for picture in pictures if (jpeg := _jpeg(picture))]


def _jpeg(picture: Image | Path | str) -> bytes:
    from PIL import Image, ImageOps  # noqa: PLC0415  (only pictures need it)

    try:
        if isinstance(picture, (str, Path)):
            with Image.open(picture) as opened:
                upright = ImageOps.exif_transpose(opened)
        else:
            upright = ImageOps.exif_transpose(picture)
    except OSError:  # a file for a BYTES input need not be a picture, nor a text that ends like one's name
        return b""
    small = upright.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
