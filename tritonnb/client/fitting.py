"""What people give, made to fit what a model takes, or refused with what is wrong.

Only casts that lose nothing are made silently. A batch dimension is added where there is no doubt (a single value, a
picture); an array or list without one is refused, and told how to add it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.casts import cast, is_float
from tritonnb.client.pictures import frame_of
from tritonnb.client.results import shape_text
from tritonnb.client.shapes import expected_input, fits, likely_mistake
from tritonnb.client.tensors import dtype_of
from tritonnb.client.values import array_of, check_integers, pictures_of
from tritonnb.errors import InferenceError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tritonnb.client.results import ModelMetadata, TensorMetadata


def fitted(metadata: ModelMetadata, inputs: Mapping[str, object], scaling: str) -> dict[str, NDArray[Any]]:
    """Return the inputs as arrays that the model takes: see `tritonnb.client.checks.check_inputs`."""
    given = {name: inputs[name] for name in inputs if inputs[name] is not None}
    _check_names(metadata, given)
    if scaling and not any(
        pictures_of(metadata, tensor, given[tensor.name]) for tensor in metadata.inputs if tensor.name in given
    ):
        raise InferenceError(
            f"the scaling {scaling!r} is for pictures, and no input is given one.",
            hint="scale an array yourself, for example x / np.float32(127.5) - 1.",
        )
    arrays = {
        tensor.name: _input(metadata, tensor, given[tensor.name], scaling)
        for tensor in metadata.inputs
        if tensor.name in given
    }
    _check_batch(metadata, arrays)
    return arrays


def _check_names(metadata: ModelMetadata, names: Iterable[str]) -> None:
    names = list(names)
    known = [tensor.name for tensor in metadata.inputs]
    for name in names:
        if name not in known:
            raise InferenceError(
                f"model {metadata.name!r} has no input {name!r}.",
                hint=nearest(str(name), known)
                or "it has no inputs at all: name them in config.pbtxt, or in auto_complete_config of its model.py.",
            )
    missing = [tensor for tensor in metadata.inputs if tensor.name not in names and not tensor.optional]
    if missing or (known and not names):
        wanted = missing or metadata.inputs
        named = f"input{'s' if len(wanted) > 1 else ''} " + ", ".join(repr(tensor.name) for tensor in wanted)
        raise InferenceError(
            f"model {metadata.name!r} needs the {named}, not given here.",
            hint="expected: " + ", ".join(expected_input(metadata, tensor) for tensor in wanted) + ".",
        )


def _input(metadata: ModelMetadata, tensor: TensorMetadata, value: object, scaling: str) -> NDArray[Any]:
    array, written_out = array_of(metadata, tensor, value, scaling)
    _check_shape(metadata, tensor, array)
    if tensor.datatype == "BYTES":
        return array
    if array.dtype == np.uint8 and hasattr(value, "dtype"):  # a picture's own pixels may be meant as they are
        _check_pixels(metadata, tensor, array)
    result = cast(tensor, array, written_out=written_out)
    if array.dtype.kind == "f" and isinstance(value, (list, tuple)) and not pictures_of(metadata, tensor, value):
        check_integers(tensor, value, result)
    return result


def _check_shape(metadata: ModelMetadata, tensor: TensorMetadata, array: NDArray[Any]) -> None:
    # How large a batch may be is another question, answered when all inputs are known.
    expected = (-1, *tensor.shape[1:]) if metadata.batched else tensor.shape
    if fits(array.shape, expected):
        return
    message = (
        f"the input {tensor.name!r} has the shape {shape_text(array.shape)}, "
        f"{shape_text(tensor.shape, batched=metadata.batched)} is expected"
    )
    mistake, cure = likely_mistake(array.shape, expected, batched=metadata.batched)
    if mistake:
        raise InferenceError(f"{message}: {mistake}.", hint=cure)
    batch = f"; N is the batch, 1 to {metadata.max_batch_size}" if metadata.batched else ""
    raise InferenceError(f"{message}{batch}.", hint="? stands for any size." if -1 in expected[1:] else "")


def _check_pixels(metadata: ModelMetadata, tensor: TensorMetadata, array: NDArray[Any]) -> None:
    """Refuse pixels of 0 to 255 for a model that takes floats, most of which were trained on scaled ones."""
    if is_float(dtype_of(tensor.datatype)) and frame_of(metadata, tensor) and array.size and array.max() > 1:
        raise InferenceError(
            f"the input {tensor.name!r} is uint8, pixels of {array.min()} to {array.max()}, {tensor.datatype} is "
            "expected: were they to be scaled first?",
            hint=(
                "for example x / np.float32(127.5) - 1, which scaling='inception' does to a picture; "
                f'where the model takes 0 to 255, x.astype("{dtype_of(tensor.datatype)}").'
            ),
        )


def _check_batch(metadata: ModelMetadata, arrays: Mapping[str, NDArray[Any]]) -> None:
    if not metadata.batched or not arrays:
        return
    sizes = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise InferenceError(
            f"all inputs of a request must have the same batch size, but {listed}.",
            hint="the first dimension of every input is the batch.",
        )
    size = max(sizes.values())
    if size > metadata.max_batch_size:
        raise InferenceError(
            f"model {metadata.name!r} takes at most {metadata.max_batch_size} in a batch, {size} were given.",
            hint="`infer_many` sends it in parts; or raise the model's max_batch_size.",
        )
    if size == 0:
        raise InferenceError(
            f"the batch is empty; model {metadata.name!r} takes 1 to {metadata.max_batch_size}.",
            hint="Triton refuses a batch of none: leave such a request out.",
        )
