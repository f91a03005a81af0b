"""Checks of a request against the model's metadata, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.shapes import fits
from tritonnb.client.tensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tritonnb.client.results import ModelMetadata


def check_inputs(metadata: ModelMetadata, inputs: Mapping[str, object], scaling: str = "") -> dict[str, NDArray[Any]]:
    """Return the inputs as arrays of the dtypes and shapes that the model takes.

    Parameters
    ----------
    metadata
        What the model takes.
    inputs
        What `tritonnb.client.values.array_of` takes, by input name, with the batch dimension where the model has one. A
        DataFrame gives its columns. An optional input may be left out, or None.
    scaling
        How pixels of pictures are scaled, one of `tritonnb.client.pictures.SCALINGS`.

    Raises
    ------
    InferenceError
        A name is missing or unknown, a shape does not fit, or a cast would lose something. The message says what
        was given and what is expected, the hint how to cure it.
    """
    if not scaling and _fit_as_they_are(metadata, inputs):
        return inputs  # type: ignore[return-value]  # a dict of arrays, as just seen
    from tritonnb.client.fitting import fitted  # noqa: PLC0415  (what fits as it is does not wait for its imports)

    return fitted(metadata, inputs, scaling)


def rows_of(value: Any) -> int:
    """Return how many rows an array or a list has; 0 for a single value."""
    return len(value) if isinstance(value, (list, tuple)) else next(iter(getattr(value, "shape", ())), 0)


def _fit_as_they_are(metadata: ModelMetadata, inputs: Mapping[str, object]) -> bool:
    """Tell, within a microsecond or two, that the inputs are arrays that need nothing done: so it is in most loops."""
    if type(inputs) is not dict or not 0 < len(inputs) == len(metadata.inputs):
        return False
    most, batch = metadata.max_batch_size, 0
    for tensor in metadata.inputs:
        array = inputs.get(tensor.name)
        if type(array) is not np.ndarray or array.dtype is not DTYPES.get(tensor.datatype):
            return False
        if tensor.datatype == "BYTES":  # an array of objects may hold other things than text
            return False
        shape = array.shape
        if shape != tensor.shape and not fits(shape, tensor.shape):
            return False
        if most:
            if not 0 < shape[0] <= most or (batch and shape[0] != batch):
                return False
            batch = shape[0]
    return True
