"""What is sent: arrays for a model's inputs, made up from its metadata or the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.client.checks import check_inputs
from tritonnb.client.random_inputs import made_up
from tritonnb.errors import SpecError
from tritonnb.measure.load import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tritonnb.client import ModelMetadata

    Arrays = dict[str, NDArray[Any]]
    Inputs = str | Mapping[str, object] | Sequence[Mapping[str, object]]

#: The user's own arrays are all sent, up to so many bytes for one point.
_MOST_BYTES = 1 << 28


def check_batch_sizes(metadata: ModelMetadata, batch_sizes: Sequence[int]) -> None:
    """Raise a `SpecError` for a batch size that the model does not take."""
    if not batch_sizes:
        raise SpecError("There is no batch size to measure.", hint="batch_sizes=[1].")
    for size in batch_sizes:
        check_number("the batch size", size, 1, float("inf"), whole=True)
        if size > 1 and not metadata.batched:
            raise SpecError(
                f"Model {metadata.name!r} has no batch dimension, so there is no batch size {size}.",
                hint="measure batch size 1; max_batch_size in its config.pbtxt gives it one, if the model can.",
            )
        if metadata.batched and size > metadata.max_batch_size:
            raise SpecError(
                f"The batch size {size} is above the max_batch_size of model {metadata.name!r}, "
                f"which is {metadata.max_batch_size}.",
                hint="raise max_batch_size in its config.pbtxt, or leave the size out.",
            )


def requests_of(
    metadata: ModelMetadata, inputs: Inputs, batch_size: int, shapes: Mapping[str, Sequence[int]] | None = None
) -> list[Arrays]:
    """Return the inputs of the requests that are sent in turn.

    Parameters
    ----------
    metadata
        What the model takes.
    inputs
        ``"random"`` (numbers from 0 to 1, text of 16 letters) or ``"zeros"``; arrays by input name, of whose rows,
        where the model batches, requests of ``batch_size`` are made in turn; or a list of requests, sent as they are.
    batch_size
        Rows per request.
    shapes
        By input name, without the batch dimension, for inputs made up whose shape the model leaves open.

    Raises
    ------
    SpecError
        An open shape was not given, or ``inputs`` is none of the above.
    InferenceError
        The user's arrays do not fit the model.
    """
    if isinstance(inputs, str):
        return [made_up(metadata, inputs, batch_size=batch_size, shapes=shapes)]
    requests = _in_turn(metadata, inputs, batch_size) if isinstance(inputs, Mapping) else list(inputs)
    if not requests:
        raise SpecError("There are no inputs.", hint="'random', 'zeros', arrays by input name, or a list of such.")
    return [check_inputs(metadata, request) for request in requests]


def _in_turn(metadata: ModelMetadata, inputs: Mapping[str, object], batch_size: int) -> list[Mapping[str, object]]:
    if not metadata.batched:
        return [inputs]
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    rows = max((len(array) if array.ndim else 0 for array in arrays.values()), default=0)
    if not rows:
        return [inputs]  # whose check says what is wrong
    fit = max(1, _MOST_BYTES // max(1, sum(array.nbytes for array in arrays.values()) * batch_size // rows))
    count = min(-(-rows // batch_size), fit)
    return [
        {
            name: np.take(array, np.arange(i * batch_size, (i + 1) * batch_size), axis=0, mode="wrap")
            if array.ndim
            else array
            for name, array in arrays.items()
        }
        for i in range(count)
    ]
