"""BYTES tensors: text and bytes as people give them, and answers as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tritonnb.client.results import InferResult, TensorMetadata

_BINARY = (bytes, bytearray, memoryview)


def strings(tensor: TensorMetadata, value: object) -> NDArray[Any]:
    """Return text and bytes as an array that loses none of them.

    Parameters
    ----------
    tensor
        An input of datatype BYTES.
    value
        ``str``, ``bytes``, ``bytearray`` or ``memoryview``, the path of a file for its content, nested lists of
        these, or an array of numpy's dtypes for text (``U``, ``S``, StringDType) or of objects. Numpy itself has
        dropped the trailing zero bytes of what is in an array of dtype ``S``; lists and object arrays keep theirs.

    Raises
    ------
    InferenceError
        Something else is among them.
    """
    # numpy's fixed-width bytes would drop trailing zero bytes, objects keep them.
    array = value if isinstance(value, np.ndarray) else np.array(_with_bytes(value), dtype=np.object_)
    if array.dtype.kind in "SU":
        return array
    what, hint = f"is {array.dtype}", 'make it text with x.astype("str").'
    if array.dtype.kind in "OT":
        array = array.astype(np.object_, copy=False)
        others = {type(e).__name__ for e in array.ravel().tolist() if not isinstance(e, (str, bytes, bytearray))}
        if not others:
            return array
        what = f"holds {', '.join(sorted(others))} objects"
        if "list" in others:
            hint = "its rows must be all of one length."
        elif others & {"NoneType", "NAType", "float"}:
            hint = f"replace what is missing, with the empty text for instance; {hint}"
    raise InferenceError(f"the input {tensor.name!r} {what}, BYTES (text or bytes) is expected.", hint=hint)


def with_text(result: InferResult) -> InferResult:
    """Return a result, now with ``str`` objects instead of ``bytes`` in its BYTES tensors.

    Raises
    ------
    InferenceError
        An element is not UTF-8.
    """
    result.update({name: _decoded(name, array) for name, array in result.items() if array.dtype.kind == "O"})
    return result


def _decoded(name: str, array: NDArray[Any]) -> NDArray[Any]:
    texts = np.empty(array.size, dtype=np.object_)
    try:
        texts[:] = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InferenceError(
            f"the output {name!r} holds bytes that are no UTF-8 text: {error.object[:40]!r}.",
            hint="ask without `decode`, and it comes as bytes.",
        ) from error
    return texts.reshape(array.shape)


def _with_bytes(value: object) -> object:
    """Return nested lists with ``bytes`` in the place of files, and of what numpy would take apart into numbers."""
    if isinstance(value, _BINARY):
        return bytes(value)
    if isinstance(value, Path):
        return value.read_bytes()
    if isinstance(value, (list, tuple)):
        return [_with_bytes(element) for element in value]
    return value
