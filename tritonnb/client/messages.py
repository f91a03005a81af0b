"""Inference requests as they go over HTTP, made quickly where one is like another before it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tritonnb.client.paths import model_path
from tritonnb.client.requests import prepare
from tritonnb.client.tensors import DTYPES
from tritonnb.client.transport import Message

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from numpy.typing import NDArray

    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import ModelMetadata
    from tritonnb.client.transport import Transport

#: So many kinds of requests are remembered. Whoever sends more kinds has each only now and then.
_MOST = 256


class _Known(NamedTuple):
    """What all messages of a kind have in common: all but the arrays' bytes."""

    metadata: ModelMetadata
    what: str
    head: bytes
    names: list[str]
    size: int


class Messages:
    """Makes the messages of a client's inference requests. Safe to use from several threads at once.

    Most requests are like one before but for the values in their arrays. Then the HTTP headers and the JSON are known,
    and so is that arrays of these dtypes and shapes fit the model and go over the wire as they lie in memory.

    Parameters
    ----------
    transport
        What will send them.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[tuple[Hashable, ...], _Known] = {}

    def message(self, metadata: ModelMetadata, inputs: Mapping[str, Any], options: InferOptions) -> Message:
        """Return the message of a request.

        Raises
        ------
        InferenceError
            The request does not fit the model.
        """
        kind = _kind(metadata, inputs, options)
        known = self._known.get(kind) if kind else None
        if known and known.metadata is metadata:
            return Message(known.what, [known.head, *[inputs[name] for name in known.names]], known.size)
        parts, headers = prepare(metadata, inputs, options)
        path = f"{model_path(metadata.name, options.version)}/infer"
        message = self._transport.message("POST", path, parts, headers)
        if kind and (names := _sent_as_they_are(inputs, parts[0])):
            if len(self._known) >= _MOST:
                self._known.clear()
            head = b"".join(message.parts[:2])
            self._known[kind] = _Known(metadata, message.what, head, names, message.size)
        return message


def _kind(metadata: ModelMetadata, inputs: Mapping[str, Any], options: InferOptions) -> tuple[Hashable, ...] | None:
    """Return what the head of a request depends on; None where it depends on more than can be told quickly."""
    if not options.plain:
        return None
    arrays: list[Hashable] = []
    for name, value in inputs.items():
        if type(value) is not np.ndarray or not value.flags.c_contiguous:
            return None
        arrays += (name, value.dtype, value.shape)
    outputs = None if options.outputs is None else tuple(options.outputs)
    return metadata.name, options.version, outputs, options.classes, tuple(arrays)


def _sent_as_they_are(inputs: Mapping[str, NDArray[Any]], header: bytes | memoryview) -> list[str]:
    """Return the inputs' names in the order of a request, or none where their bytes are not simply the arrays' own."""
    sent = json.loads(bytes(header))["inputs"]
    for tensor in sent:
        array = inputs[tensor["name"]]
        dtype = DTYPES.get(tensor["datatype"])
        if array.dtype != dtype or dtype.kind == "O" or list(array.shape) != tensor["shape"]:
            return []
    return [tensor["name"] for tensor in sent]
