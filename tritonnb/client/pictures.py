"""Pictures as a model's input: size, channels and layout from its metadata, pixel values as it was trained.

The scalings ``none``, ``inception`` and ``vgg`` and the bilinear resizing are those of Triton's ``image_client.py``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.casts import is_float
from tritonnb.client.shapes import expected_input
from tritonnb.client.tensors import dtype_of
from tritonnb.errors import InferenceError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from tritonnb.client.results import ModelMetadata, TensorMetadata

_RGB = 3
# The likeliest number of channels first.
_MODES = {_RGB: "RGB", 1: "L", 4: "RGBA"}
_UNLIKELY = {channels: place for place, channels in enumerate(_MODES)}
_VGG_MEANS = np.array([123, 117, 104], "float32")
_IMAGENET_MEANS = np.array([0.485, 0.456, 0.406], "float32")
_IMAGENET_DEVIATIONS = np.array([0.229, 0.224, 0.225], "float32")

#: What may be done with pixels of 0 to 255, in words.
SCALINGS = {
    "none": "0 to 255 as they are",
    "unit": "x / 255: 0 to 1",
    "inception": "x / 127.5 - 1: -1 to 1",
    "vgg": "x - (123, 117, 104); grey: x - 128",
    "imagenet": "(x / 255 - mean) / deviation of ImageNet's colours, as torchvision's models want it",
}


@dataclass(frozen=True)
class Frame:
    """How an input takes pictures.

    Parameters
    ----------
    channels
        1 (grey), 3 (RGB) or 4 (RGBA); 0 for grey without a dimension for it.
    height, width
        In pixels, -1 for any.
    channels_last
        Whether the channels follow the pixels (NHWC) or come before them (NCHW).
    stacked
        Whether several pictures fit, one after the other in the first dimension.
    """

    channels: int
    height: int
    width: int
    channels_last: bool
    stacked: bool


def frame_of(metadata: ModelMetadata, tensor: TensorMetadata) -> Frame | None:
    """Return how an input takes pictures, None where its shape is not a picture's.

    Where the configuration's ``format`` does not say which dimension the channels are, it is the first or the last of
    the three that has 3, 1 or 4 of them, whichever is likelier in this order; the first where both are alike.
    """
    shape = tensor.shape
    if tensor.datatype in ("BYTES", "BOOL"):
        return None
    stacked = metadata.batched or len(shape) == 4  # noqa: PLR2004  (a model whose first dimension is its own batch)
    dims = shape[1:] if stacked else shape
    if len(dims) == 2 and min(dims) > max(_MODES):  # noqa: PLR2004  (rows and columns)
        return Frame(0, *dims, channels_last=True, stacked=stacked)
    if len(dims) != 3:  # noqa: PLR2004
        return None
    last = tensor.format == "FORMAT_NHWC" or (
        tensor.format != "FORMAT_NCHW" and _UNLIKELY.get(dims[2], len(_MODES)) < _UNLIKELY.get(dims[0], len(_MODES))
    )
    channels, height, width = (dims[2], *dims[:2]) if last else dims
    if channels == -1 and tensor.format in ("FORMAT_NCHW", "FORMAT_NHWC"):
        channels = _RGB
    return Frame(channels, height, width, last, stacked) if channels in _MODES else None


def is_picture(value: object) -> bool:
    """Tell whether a value is a picture of PIL's, or the path of a file."""
    if isinstance(value, Path):
        return True
    # Nobody has a picture of PIL's without having imported it.
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def picture_array(
    metadata: ModelMetadata, tensor: TensorMetadata, pictures: Sequence[Any], scaling: str = ""
) -> NDArray[Any]:
    """Return pictures as the array that an input takes, with the batch dimension where it has one.

    Each is turned upright (EXIF), laid on white where it is transparent, made grey, RGB or RGBA, resized to the
    model's height and width (bilinear, not cropped; where the model takes any size it keeps its own), scaled, and
    laid out as the model takes it.

    Parameters
    ----------
    metadata, tensor
        The model, and its input.
    pictures
        PIL images, or paths of files that PIL reads.
    scaling
        One of `SCALINGS`; empty is ``none``, as in Triton's image_client.

    Returns
    -------
    ndarray
        uint8 without scaling, else of the input's dtype: [N, C, H, W], [N, H, W, C] or [N, H, W], without N where the
        input has none.

    Raises
    ------
    InferenceError
        The input takes no pictures, a file is not there or no picture, or there is no such scaling.
    """
    frame = frame_of(metadata, tensor)
    if tensor.datatype == "BYTES":
        raise InferenceError(
            f"the input {tensor.name!r} takes BYTES: the content of a picture's file, not its pixels.",
            hint="give the file's path, or what `image.save` writes into an io.BytesIO.",
        )
    if frame is None:
        raise InferenceError(
            f"the input {tensor.name!r} takes no pictures: {expected_input(metadata, tensor)} is expected.",
            hint="a picture fits where three dimensions are height, width and 1, 3 or 4 channels.",
        )
    if scaling and scaling not in SCALINGS:
        raise InferenceError(f"there is no scaling {scaling!r} of pictures.", hint=nearest(scaling, SCALINGS))
    if not frame.stacked and len(pictures) != 1:
        raise InferenceError(
            f"the input {tensor.name!r} takes one picture, {len(pictures)} were given.",
            hint="send them one after the other: the model has no batch dimension.",
        )
    arrays = [_pixels(tensor, picture, frame) for picture in pictures]
    if len({array.shape for array in arrays}) > 1:
        raise InferenceError(
            f"the pictures for the input {tensor.name!r} are of different sizes, and the model takes any.",
            hint="resize them to one size, or send them one after the other.",
        )
    scaled = _scaled(tensor, np.stack(arrays), frame, scaling or "none")
    ordered = scaled if frame.channels_last else scaled.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(ordered if frame.stacked else ordered[0])


def _pixels(tensor: TensorMetadata, picture: Any, frame: Frame) -> NDArray[np.uint8]:
    """Return a picture's pixels, [H, W] or [H, W, C]."""
    from PIL import Image, ImageOps  # noqa: PLC0415  (only pictures need it)

    try:
        if isinstance(picture, (str, Path)):
            with Image.open(picture) as opened:
                image = ImageOps.exif_transpose(opened)
        else:
            image = ImageOps.exif_transpose(picture)
    except FileNotFoundError as error:
        raise InferenceError(
            f"the input {tensor.name!r} takes a picture, and there is no file {str(picture)!r}.",
            hint=f"the current folder is {Path.cwd()}.",
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InferenceError(
            f"{str(picture)!r}, given for the input {tensor.name!r}, cannot be read as a picture: {error}",
            hint="see whether the file is whole, and of a kind that Pillow knows.",
        ) from error
    image = _in_mode(tensor, image, _MODES[frame.channels or 1])
    size = _size(image, frame)
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)).reshape(
        size[1], size[0], *([frame.channels] if frame.channels else [])
    )


def _in_mode(tensor: TensorMetadata, image: Image.Image, mode: str) -> Image.Image:
    from PIL import Image  # noqa: PLC0415  (only pictures need it)

    if image.mode.startswith("I;16"):  # PIL's own conversion cuts everything above 255 off
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InferenceError(
            f"the picture for the input {tensor.name!r} has pixels of 32 bits, of which nobody knows what is white.",
            hint="give them as an array, scaled as the model takes them.",
        )
    if mode != "RGBA" and image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image.convert(mode)


def _size(image: Image.Image, frame: Frame) -> tuple[int, int]:
    """Return the width and height to resize to; what the model leaves open follows the picture's proportions."""
    width, height = image.size
    if frame.width == frame.height == -1:
        return width, height
    if frame.width == -1:
        return max(1, round(width * frame.height / height)), frame.height
    if frame.height == -1:
        return frame.width, max(1, round(height * frame.width / width))
    return frame.width, frame.height


def _scaled(tensor: TensorMetadata, pixels: NDArray[np.uint8], frame: Frame, scaling: str) -> NDArray[Any]:
    if scaling == "none":
        return pixels
    target = dtype_of(tensor.datatype)
    if not is_float(target):
        raise InferenceError(
            f"the input {tensor.name!r} takes {tensor.datatype}, which cannot hold pixels of scaling {scaling!r}.",
            hint="leave the scaling out: such models take pixels of 0 to 255.",
        )
    x = pixels.astype(np.float32)
    if scaling == "unit":
        x /= 255
    elif scaling == "inception":
        x = x / 127.5 - 1
    elif scaling == "vgg" and frame.channels in (0, 1):
        x -= 128
    elif frame.channels != _RGB:
        raise InferenceError(
            f"the scaling {scaling!r} is for RGB; the input {tensor.name!r} has {frame.channels or 1} channels.",
            hint="take 'unit', 'inception' or 'none', or scale an array yourself.",
        )
    elif scaling == "vgg":
        x -= _VGG_MEANS
    else:
        x = (x / 255 - _IMAGENET_MEANS) / _IMAGENET_DEVIATIONS
    return x.astype(target)
