"""Pictures from scikit-image, and how the sample model wants them."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tritonnb.errors import SpecError, nearest
from tritonnb.samples.extra import samples_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tritonnb.samples.predictions import Prediction

# Those that are inside scikit-image's wheel; the others would be downloaded.
_FILES = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
PICTURES = tuple(_FILES)

_SIDE = 224


def picture(name: str) -> Image.Image:
    """Return one of the sample pictures; no network is needed.

    Parameters
    ----------
    name
        One of :data:`PICTURES`, such as ``"chelsea"`` (a cat), ``"coffee"`` (a cup of it) or ``"camera"`` (a
        photographer at a tripod, in grey).

    Raises
    ------
    SpecError
        No sample picture has this name.
    TritonNbError
        The extra ``samples`` is not installed.
    """
    if name not in _FILES:
        raise SpecError(
            f"there is no sample picture {name!r}; there are {', '.join(PICTURES)}.",
            hint=nearest(name, PICTURES),
        )
    with samples_extra():
        file = resources.files("skimage").joinpath("data", _FILES[name])
    with file.open("rb") as opened, Image.open(opened) as image:
        return image.copy()


def preprocess(image: Image.Image, *more: Image.Image) -> NDArray[np.float32]:
    """Return pictures as the sample model's input ``data_0``.

    Each is made RGB, resized to 224 x 224 (bilinear, not cropped), scaled to -1..1 by ``x / 128 - 1`` (what
    Azure ML's DenseNet sample for Triton calls INCEPTION scaling), and turned from rows, columns, colours to
    colours, rows, columns.

    Parameters
    ----------
    image, more
        One picture, or several for a batch.

    Returns
    -------
    ndarray
        float32 [N, 3, 224, 224], where N is the number of pictures.
    """
    pixels = [
        np.asarray(each.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
        for each in (image, *more)
    ]
    return np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2) / np.float32(128) - np.float32(1))


def captioned(image: Image.Image, predictions: Sequence[Prediction]) -> Image.Image:
    """Return a picture with its predictions beside it: a line and a bar for each.

    Parameters
    ----------
    image
        What was classified.
    predictions
        What :func:`top` returned for it.

    Returns
    -------
    Image
        RGB, 680 x 240 pixels (higher for more than five predictions); a notebook shows it as it is.
    """
    card = Image.new("RGB", (680, max(240, 10 + 46 * len(predictions))), "white")
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((320, 240))
    card.paste(thumbnail, ((320 - thumbnail.width) // 2, (240 - thumbnail.height) // 2))
    draw = ImageDraw.Draw(card)
    font = ImageFont.load_default(16)
    for line, prediction in enumerate(predictions):
        top_edge = 8 + 46 * line
        draw.text((344, top_edge), prediction.label, "#222222", font)
        draw.text((664, top_edge), f"{prediction.probability:.1%}", "#222222", font, anchor="ra")
        draw.rectangle((344, top_edge + 24, 664, top_edge + 32), "#eeeeee")
        draw.rectangle((344, top_edge + 24, 344 + round(320 * prediction.probability), top_edge + 32), "#76b900")
    return card
