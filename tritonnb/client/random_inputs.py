"""Inputs made up from what a model says that it takes, to try it or to measure it."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.checks import check_inputs
from tritonnb.client.results import shape_text
from tritonnb.client.tensors import dtype_of
from tritonnb.errors import SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from tritonnb.client import ModelMetadata, TensorMetadata

MADE_UP = ("random", "zeros")

#: Whole numbers are drawn below this: they may be indices into a table.
_BELOW = 2
_LETTERS = 16


def made_up(
    metadata: ModelMetadata,
    how: str = "random",
    *,
    batch_size: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    but: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Return inputs that the model takes; optional ones are left out unless their shape is given.

    Parameters
    ----------
    metadata
        What the model takes.
    how
        ``"random"`` (numbers from 0 to 1, whole ones 0 or 1, text of 16 letters) or ``"zeros"``.
    batch_size
        Rows, where the model has a batch dimension.
    shapes
        By input name, without the batch dimension, for inputs whose shape the model leaves open.
    seed
        The same seed gives the same inputs.
    but
        Names of inputs that are left out.

    Raises
    ------
    SpecError
        An open shape was not given, or there is no such input or way to make one up.
    InferenceError
        A shape given is not one that the model takes.
    """
    shapes = shapes or {}
    if how not in MADE_UP:
        raise SpecError(f"There are no inputs {how!r}.", hint=nearest(how, MADE_UP))
    metadata = replace(metadata, inputs=tuple(tensor for tensor in metadata.inputs if tensor.name not in but))
    names = [tensor.name for tensor in metadata.inputs]
    for name in shapes:
        if name not in names:
            raise SpecError(f"Model {metadata.name!r} has no input {name!r}.", hint=nearest(name, names))
    random = np.random.default_rng(seed) if how == "random" else None
    arrays = {}
    for tensor in metadata.inputs:
        if tensor.optional and tensor.name not in shapes:
            continue
        shape = _shape(metadata, tensor, batch_size, shapes.get(tensor.name))
        arrays[tensor.name] = _filled(tensor.datatype, shape, random)
    return check_inputs(metadata, arrays)


def _shape(
    metadata: ModelMetadata, tensor: TensorMetadata, batch_size: int, given: Sequence[int] | None
) -> tuple[int, ...]:
    inner = tensor.shape[1:] if metadata.batched else tensor.shape
    if given is not None:
        inner = tuple(given)
    if any(size < 0 for size in inner):
        example = [8 if size < 0 else size for size in inner]
        raise SpecError(
            f"The input {tensor.name!r} of model {metadata.name!r} has the open shape {shape_text(inner)}, so its "
            "size must be said.",
            hint=f"shapes={{{tensor.name!r}: {example}}}, on a line "
            f"--shape {tensor.name}={','.join(map(str, example))}; or give arrays of your own.",
        )
    return (batch_size, *inner) if metadata.batched else inner


def _filled(datatype: str, shape: tuple[int, ...], random: np.random.Generator | None) -> NDArray[Any]:
    dtype = dtype_of(datatype)
    if datatype == "BYTES":
        array = np.empty(shape, np.object_)
        letters = list(string.ascii_lowercase)
        flat = ["".join(random.choice(letters, _LETTERS)) if random else "" for _ in range(array.size)]
        array.reshape(-1)[:] = flat
        return array
    if random is None:
        return np.zeros(shape, dtype)
    if datatype.startswith(("FP", "BF")):
        return random.random(shape, np.float32).astype(dtype)
    return random.integers(0, _BELOW, shape).astype(dtype)
