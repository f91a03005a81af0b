"""Triton's generate extension: JSON in and out, and answers as server-sent events where there are many."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tritonnb.client.requests import refused
from tritonnb.errors import InferenceError, ServerError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import ModelMetadata


def generate_request(metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions) -> bytes:
    """Return the body of a request: the inputs by name, as numbers, texts, or flat lists of them.

    A batch dimension of 1 is taken off: the extension has none, Triton adds it.

    Raises
    ------
    InferenceError
        The model has no such input, or a value is not JSON's.
    """
    names = [tensor.name for tensor in metadata.inputs]
    for name in inputs:
        if name not in names:
            raise InferenceError(
                f"model {metadata.name!r} has no input {name!r}.",
                hint=f"{nearest(name, names)} What is no input goes into parameters=.",
            )
    said = {"parameters": dict(options.parameters)} if options.parameters else {}
    identified = {"id": options.request_id} if options.request_id else {}
    try:
        values = {name: _flat(metadata, name, value) for name, value in inputs.items()}
        return json.dumps({**identified, **said, **values}, default=_plain, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InferenceError(
            f"the inputs cannot be written as JSON: {error}.", hint="give numbers, texts, or lists of them."
        ) from error


def read_generated(model: str, text: str | bytes | bytearray) -> dict[str, Any]:
    """Return the outputs by name, with ``model_name``, ``model_version`` and ``id``.

    Raises
    ------
    RequestRefusedError
        It is an error that the model or the server tells.
    ServerError
        It cannot be read.
    """
    try:
        said = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ServerError(
            f"an answer of model {model!r} cannot be read ({type(error).__name__}: {error}).",
            hint="see whether a proxy stands between.",
        ) from error
    if "error" in said and "model_name" not in said:
        raise refused(model, ServerError(str(said["error"]), status=500))
    return said


def read_events(model: str, pieces: Iterable[bytes | bytearray]) -> Iterator[dict[str, Any]]:
    """Yield what each server-sent event says, as `read_generated` reads it.

    Parameters
    ----------
    model
        For errors.
    pieces
        The stream as it comes, cut anywhere.
    """
    lines, data = bytearray(), []
    for piece in pieces:
        lines += piece
        *whole, rest = lines.split(b"\n")
        lines = bytearray(rest)
        for line in whole:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                data.append(bytes(value.removeprefix(b" ")))
            elif not name and data:  # an empty line ends the event
                yield read_generated(model, b"\n".join(data))
                data = []
    if data or lines.strip():
        raise ServerError(f"the last answer of model {model!r} is cut off.", hint="see whether a proxy stands between.")


def _flat(metadata: ModelMetadata, name: str, value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    if (
        metadata.batched
        and isinstance(value, (list, tuple))
        and len(value) == 1
        and isinstance(value[0], (list, tuple))
    ):
        value = value[0]
    if isinstance(value, (list, tuple)) and any(isinstance(element, (list, tuple)) for element in value):
        raise InferenceError(
            f"the input {name!r} has more than one dimension, which Triton's generate extension does not have.",
            hint="ask with infer(...) or stream(...).",
        )
    return value


def _plain(value: Any) -> Any:
    """Return a numpy array or number, or bytes, as JSON has them."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not of JSON")
