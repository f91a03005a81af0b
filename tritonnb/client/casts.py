"""Casts to a model's datatype that lose nothing; any other is refused with the cast to write.

Every value must survive, and the kind may only go up (bool to integer to float). Floats written out in Python take the
model's type, as in numpy's own arithmetic (NEP 50); integers, however written, must stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.tensors import dtype_of
from tritonnb.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tritonnb.client.results import TensorMetadata

_RANKS = {"b": 0, "i": 1, "u": 1, "f": 2}


def cast(tensor: TensorMetadata, array: NDArray[Any], *, written_out: bool = False) -> NDArray[Any]:
    """Return an array of numbers in the datatype of an input, with the same values.

    Parameters
    ----------
    tensor
        The input; of any datatype but BYTES.
    array
        What was given, of any dtype and byte order.
    written_out
        Whether the values were written in Python without a dtype of their own: then floats are rounded to the model's
        precision.

    Raises
    ------
    InferenceError
        It holds no numbers, or some value would change.
    """
    target = dtype_of(tensor.datatype)
    if array.dtype == target:
        return array
    if array.dtype.kind == "O":
        raise InferenceError(
            f"the input {tensor.name!r} is an array of Python objects, {tensor.datatype} is expected.",
            hint=f'make it numbers with x.astype("{target}"); rows of unequal lengths must be padded first.',
        )
    rank, wanted = _rank(array.dtype), _rank(target)
    if rank is None or wanted is None:
        raise InferenceError(
            f"the input {tensor.name!r} is {array.dtype}, {tensor.datatype} is expected.",
            hint=f'if it holds numbers, make them so with x.astype("{target}").',
        )
    loss = "and that cast can lose values"
    if rank <= wanted:
        with np.errstate(over="ignore", invalid="ignore"):
            result = array.astype(target)
        if _survives(array, result) or (written_out and rank == _RANKS["f"] and not _overflows(array, result)):
            return result
        loss = "and some of its values would change"
    raise InferenceError(
        f"the input {tensor.name!r} is {array.dtype}, {tensor.datatype} ({target}) is expected, {loss}.",
        hint=f'if that is meant, cast it yourself: x.astype("{target}").',
    )


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype is of floating-point numbers, bfloat16 among them, which numpy calls void."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def _rank(dtype: np.dtype[Any]) -> int | None:
    return _RANKS["f"] if is_float(dtype) else _RANKS.get(dtype.kind)


def _overflows(array: NDArray[Any], result: NDArray[Any]) -> bool:
    return bool((np.isfinite(array) & ~np.isfinite(result)).any())


def _survives(array: NDArray[Any], result: NDArray[Any]) -> bool:
    """Tell whether every value is the same after the cast; NaN stays NaN."""
    if array.dtype.kind == "b" or not array.size:
        return True
    if is_float(array.dtype):
        return bool(np.array_equal(result.astype(array.dtype), array, equal_nan=True))
    if result.dtype.kind in "iu":
        limits = np.iinfo(result.dtype)
        return limits.min <= int(array.min()) and int(array.max()) <= limits.max
    # An integer survives if the float is within the integer's range (powers of two, exact as floats) and the way
    # back gives the same.
    limits = np.iinfo(array.dtype)
    floats = result.astype(np.float64)
    if not bool(((floats >= limits.min) & (floats < float(limits.max + 1))).all()):
        return False
    return bool(np.array_equal(floats.astype(array.dtype), array))
