"""Checks of a request against the model's metadata, before anything is sent.

Only casts that lose nothing are made silently: every value must survive, and the kind may only go up (bool
to integer to float). Numbers written out in Python take the model's type, as in numpy's own arithmetic (NEP 50).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.results import shape_text
from tritonnb.client.tensors import dtype_of
from tritonnb.errors import InferenceError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tritonnb.client.results import ModelMetadata, TensorMetadata

_KINDS = {"b": 0, "i": 1, "u": 1, "f": 2}


def check_inputs(metadata: ModelMetadata, inputs: Mapping[str, object]) -> dict[str, NDArray[Any]]:
    """Return the inputs as arrays of the dtypes and shapes that the model takes.

    Parameters
    ----------
    metadata
        What the model takes.
    inputs
        Arrays, nested lists or scalars by input name, with the batch dimension where the model has one.

    Raises
    ------
    InferenceError
        A name is missing or unknown, a shape does not fit, or a cast would lose something. The message says what
        was given and what is expected, the hint how to cure it.
    """
    _check_names(metadata, inputs)
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in metadata.inputs:
        if tensor.name not in inputs:
            continue
        value = inputs[tensor.name]
        array = _as_array(tensor, value)
        _check_shape(metadata, tensor, array)
        arrays[tensor.name] = _cast(tensor, array, written_out=_is_written_out(value))
    _check_batch(metadata, arrays)
    return arrays


def _check_names(metadata: ModelMetadata, inputs: Mapping[str, object]) -> None:
    known = [tensor.name for tensor in metadata.inputs]
    for name in inputs:
        if name not in known:
            raise InferenceError(
                f"model {metadata.name!r} has no input {name!r}.",
                hint=nearest(str(name), known)
                or "it has no inputs at all: name them in config.pbtxt, or in auto_complete_config of its model.py.",
            )
    missing = [tensor for tensor in metadata.inputs if tensor.name not in inputs and not tensor.optional]
    if missing or (known and not inputs):
        wanted = missing or metadata.inputs
        names = f"input{'s' if len(wanted) > 1 else ''} " + ", ".join(repr(tensor.name) for tensor in wanted)
        raise InferenceError(
            f"model {metadata.name!r} needs the {names}, not given here.",
            hint="expected: " + ", ".join(_expected(metadata, tensor) for tensor in wanted) + ".",
        )


def _expected(metadata: ModelMetadata, tensor: TensorMetadata) -> str:
    return f"{tensor.name} {tensor.datatype} {shape_text(tensor.shape, batched=metadata.batched)}"


def _as_array(tensor: TensorMetadata, value: object) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    try:
        # numpy's fixed-width bytes would drop trailing zero bytes, objects keep them.
        return np.array(value, dtype=np.object_) if tensor.datatype == "BYTES" else np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InferenceError(
            f"the input {tensor.name!r} cannot be made into an array: {error}",
            hint="give a numpy array, or a list whose rows are all of one length.",
        ) from error


def _is_written_out(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_written_out(element) for element in value)
    # numpy's float64 is a float too, but one with a type of its own.
    return type(value) in (bool, int, float)


def _check_shape(metadata: ModelMetadata, tensor: TensorMetadata, array: NDArray[Any]) -> None:
    if array.size == 0:
        raise InferenceError(
            f"the input {tensor.name!r} is empty: its shape is {shape_text(array.shape)}, "
            f"{_expected(metadata, tensor)} is expected."
        )
    # How large a batch may be is another question, answered when all inputs are known.
    expected = (-1, *tensor.shape[1:]) if metadata.batched else tensor.shape
    if _fits(array.shape, expected):
        return
    message = (
        f"the input {tensor.name!r} has the shape {shape_text(array.shape)}, "
        f"{shape_text(tensor.shape, batched=metadata.batched)} is expected"
    )
    if array.ndim == 0:
        cure = "[" * len(expected) + "x" + "]" * len(expected)
        raise InferenceError(f"{message}: it is a scalar.", hint=f"a single value is written {cure}.")
    if _fits((1, *array.shape), expected):
        dimension = "the batch dimension" if metadata.batched else "the first dimension"
        raise InferenceError(
            f"{message}: {dimension} is missing.", hint="add it with x[None], or numpy.expand_dims(x, 0)."
        )
    if array.shape[0] == 1 and _fits(array.shape[1:], expected):
        raise InferenceError(f"{message}: one dimension too many.", hint="take the first one off with x[0].")
    batch = f"; N is the batch, 1 to {metadata.max_batch_size}" if metadata.batched else ""
    raise InferenceError(f"{message}{batch}.", hint="? stands for any size." if -1 in expected[1:] else "")


def _fits(shape: Iterable[int], expected: tuple[int, ...]) -> bool:
    shape = tuple(shape)
    return len(shape) == len(expected) and all(
        wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )


def _check_batch(metadata: ModelMetadata, arrays: Mapping[str, NDArray[Any]]) -> None:
    if not metadata.batched:
        return
    sizes = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise InferenceError(
            f"all inputs of a request must have the same batch size, but {listed}.",
            hint="the first dimension of every input is the batch.",
        )
    if max(sizes.values(), default=0) > metadata.max_batch_size:
        raise InferenceError(
            f"model {metadata.name!r} takes at most {metadata.max_batch_size} in a batch, "
            f"{max(sizes.values())} were given.",
            hint=f"send x[:{metadata.max_batch_size}], then the rest, or raise the model's max_batch_size.",
        )


def _cast(tensor: TensorMetadata, array: NDArray[Any], *, written_out: bool) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        return _strings(tensor, array)
    target = dtype_of(tensor.datatype)
    if array.dtype == target:
        return array
    if array.dtype.kind == "O":
        raise InferenceError(
            f"the input {tensor.name!r} is an array of Python objects, {tensor.datatype} is expected.",
            hint=f'make it numbers with x.astype("{target}"); rows of unequal lengths must be padded first.',
        )
    if array.dtype.kind not in _KINDS:
        raise InferenceError(
            f"the input {tensor.name!r} is {array.dtype}, {tensor.datatype} is expected.",
            hint=f'if it holds numbers, make them so with x.astype("{target}").',
        )
    if _KINDS[array.dtype.kind] <= _KINDS[target.kind]:
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(target)
        if _survives(array, cast) or (written_out and array.dtype.kind == "f" and not _overflows(array, cast)):
            return cast
        loss = "and some of its values would change"
    else:
        loss = "and that cast can lose values"
    raise InferenceError(
        f"the input {tensor.name!r} is {array.dtype}, {tensor.datatype} ({target}) is expected, {loss}.",
        hint=f'if that is meant, cast it yourself: x.astype("{target}").',
    )


def _overflows(array: NDArray[Any], cast: NDArray[Any]) -> bool:
    return bool((np.isfinite(array) & ~np.isfinite(cast)).any())


def _survives(array: NDArray[Any], cast: NDArray[Any]) -> bool:
    """Tell whether every value is the same after the cast; NaN stays NaN."""
    # numpy calls int64 to float64 safe, which it is only up to 2**53.
    if array.dtype.kind == "b" or (
        cast.dtype.kind == array.dtype.kind and np.can_cast(array.dtype, cast.dtype, "safe")
    ):
        return True
    if cast.dtype.kind in "iu":
        limits = np.iinfo(cast.dtype)
        return limits.min <= int(array.min()) and int(array.max()) <= limits.max
    if array.dtype.kind == "f":
        return bool(np.array_equal(cast.astype(array.dtype), array, equal_nan=True))
    # An integer survives if the float is within the integer's range (powers of two, exact as floats) and the way
    # back gives the same.
    limits = np.iinfo(array.dtype)
    floats = cast.astype(np.float64)
    if not bool(((floats >= limits.min) & (floats < float(limits.max + 1))).all()):
        return False
    return bool(np.array_equal(floats.astype(array.dtype), array))


def _strings(tensor: TensorMetadata, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in "SU":
        return array
    what = f"is {array.dtype}"
    if array.dtype.kind == "O":
        others = {type(e).__name__ for e in array.ravel().tolist() if not isinstance(e, (str, bytes, bytearray))}
        if not others:
            return array
        what = f"holds {', '.join(sorted(others))} objects"
    raise InferenceError(
        f"the input {tensor.name!r} {what}, BYTES (text or bytes) is expected.",
        hint='make it text with x.astype("str").',
    )
