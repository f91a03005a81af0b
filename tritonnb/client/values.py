"""What people give for an input, as a numpy array: lists and numbers, text, pandas columns, torch tensors, pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.casts import cast
from tritonnb.client.pictures import frame_of, is_picture, picture_array
from tritonnb.client.tensors import dtype_of
from tritonnb.client.text import strings
from tritonnb.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tritonnb.client.results import ModelMetadata, TensorMetadata


def array_of(
    metadata: ModelMetadata, tensor: TensorMetadata, value: object, scaling: str = ""
) -> tuple[NDArray[Any], bool]:
    """Return a value as an array, and whether its numbers were written out in Python, without a dtype of their own.

    The dtype is the value's own or, where it has none, what numpy makes of it; the shape too, but for three that leave
    no doubt: a single number or text gets the dimensions of 1 that the model asks for, a column (of pandas, polars) its
    second dimension, a picture its batch dimension.

    Parameters
    ----------
    metadata, tensor
        The model, and the input that it is for.
    value
        An array, a number, a text, nested lists of them; a pandas Series or DataFrame, or another that has
        ``to_numpy()``; a torch tensor on any device; a PIL image, the path of a picture, or a list of these, where the
        input has a picture's shape. For BYTES see `tritonnb.client.text.strings`.
    scaling
        Of pictures.

    Raises
    ------
    InferenceError
        There is no array that holds just these values.
    """
    try:
        array = _foreign_array(tensor, value)
        if array is None and (pictures := pictures_of(metadata, tensor, value)):
            return picture_array(metadata, tensor, pictures, scaling), False
        if tensor.datatype == "BYTES":
            array = strings(tensor, value if array is None else array)
        elif array is None:
            array = np.asarray(_without_tensors(value))
    except InferenceError:
        raise
    except OSError as error:
        raise InferenceError(
            f"the file for the input {tensor.name!r} cannot be read: {error}",
            hint=f"the current folder is {Path.cwd()}.",
        ) from error
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise InferenceError(
            f"the input {tensor.name!r} cannot be made into an array: {error}",
            hint="give a numpy array, or a list whose rows are all of one length.",
        ) from error
    if array.ndim == 0 and array.dtype.kind == "O" and tensor.datatype != "BYTES":
        raise InferenceError(
            f"the input {tensor.name!r} is of type {type(value).__name__}, {tensor.datatype} is expected.",
            hint="give a numpy array, a number or nested lists of numbers.",
        )
    if array.ndim == 0 and all(size in (-1, 1) for size in tensor.shape):
        array = array.reshape([1] * len(tensor.shape))
    return array, is_written_out(value)


def pictures_of(metadata: ModelMetadata, tensor: TensorMetadata, value: object) -> list[Any]:
    """Return the pictures that a value is, none where it is none; a text names a file where only a picture would do."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if tensor.datatype == "BYTES":  # a path stands for what is in the file
        return values if any(is_picture(each) and not isinstance(each, Path) for each in values) else []
    if values and all(is_picture(each) for each in values):
        return values
    if all(isinstance(each, str) or is_picture(each) for each in values) and frame_of(metadata, tensor):
        return values
    return []


def is_written_out(value: object) -> bool:
    """Tell whether a value is a number of Python's own, or nested lists of them."""
    if isinstance(value, (list, tuple)):
        return all(is_written_out(element) for element in value)
    # numpy's float64 is a float too, but one with a type of its own.
    return type(value) in (bool, int, float)


def check_integers(tensor: TensorMetadata, value: object, array: NDArray[Any]) -> None:
    """Refuse an array in which an integer of a list is another, because a float in that list made it one.

    Parameters
    ----------
    tensor
        The input.
    value
        What was given.
    array
        What it became, in the datatype of the input.
    """
    leaves = np.array(_without_tensors(value), dtype=np.object_).ravel().tolist()
    for given, sent in zip(leaves, array.astype(np.float64).ravel().tolist(), strict=True):
        if isinstance(given, (int, np.integer)) and int(given) != sent:
            raise InferenceError(
                f"the input {tensor.name!r} holds the integer {given}, which {tensor.datatype} has not.",
                hint=f"if rounding is meant, write {float(given)!r}.",
            )


def _foreign_array(tensor: TensorMetadata, value: object) -> NDArray[Any] | None:
    """Return the array that a value of numpy, pandas or torch is, None for any other."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InferenceError(
            f"the input {tensor.name!r} has masked elements, which cannot be sent.",
            hint="say what stands in their place, with x.filled(value).",
        )
    if isinstance(value, np.ndarray):
        return value
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(torch, value)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame) and tensor.datatype != "BYTES":
        # Column by column: pandas makes integers beside floats into floats, whether they survive it or not.
        return np.stack([cast(tensor, column.to_numpy()) for _, column in value.items()], axis=1)
    if hasattr(value, "to_numpy"):
        array: NDArray[Any] = value.to_numpy()
        return array[:, None] if array.ndim == 1 and len(tensor.shape) == 2 and tensor.shape[1] in (-1, 1) else array  # noqa: PLR2004
    return None


def _of_tensor(torch: Any, tensor: Any) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:  # numpy has none, and torch does not know ml_dtypes
        bits: NDArray[np.int16] = tensor.contiguous().view(torch.int16).numpy(force=True)
        return bits.view(dtype_of("BF16"))
    array: NDArray[Any] = tensor.numpy(force=True)  # from any device, with gradients or without
    return array


def _without_tensors(value: object) -> object:
    """Return lists with arrays in the place of torch's tensors, which numpy takes only from the CPU."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, (list, tuple)):
        return [_of_tensor(torch, each) if isinstance(each, torch.Tensor) else each for each in value]
    return value
