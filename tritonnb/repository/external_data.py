"""Which files beside an ONNX file hold its weights.

``torch.onnx.export`` and ``onnx.save_model(save_as_external_data=True)`` leave large weights in files of their own,
named in each tensor's ``external_data`` (onnx.proto, TensorProto). The names are read from the protobuf encoding
directly: the onnx package is not among tritonnb's dependencies, and nothing but names is wanted from a large file.
"""

from __future__ import annotations

import mmap
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_EXTERNAL_DATA = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


class _NotProtobufError(ValueError):
    """The bytes are no protobuf message, or end too early."""


def external_files(model: Path) -> tuple[str, ...]:
    """Return the names of the files that hold an ONNX model's weights, relative to its folder.

    Parameters
    ----------
    model
        The ``.onnx`` file.

    Returns
    -------
    tuple of str
        Without names that are absolute or leave the folder, which ONNX Runtime refuses as well. Empty also for a
        file that is no ONNX model: the server says so better when it loads it.
    """
    if not model.stat().st_size:
        return ()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            names = dict.fromkeys(_locations(data))
        except (_NotProtobufError, UnicodeDecodeError):
            return ()
    return tuple(name for name in names if _stays_inside(name))


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _locations(data: mmap.mmap) -> Iterator[str]:
    for graph in _messages(data, (0, len(data)), _MODEL_GRAPH):
        for tensor in _messages(data, graph, _GRAPH_INITIALIZER):
            for entry in _messages(data, tensor, _TENSOR_EXTERNAL_DATA):
                texts = dict(_fields(data, entry))
                key, value = (data[slice(*texts.get(number, (0, 0)))] for number in (_ENTRY_KEY, _ENTRY_VALUE))
                if key == b"location":
                    yield value.decode()


def _messages(data: mmap.mmap, span: tuple[int, int], number: int) -> Iterator[tuple[int, int]]:
    return (inner for field, inner in _fields(data, span) if field == number)


def _fields(data: mmap.mmap, span: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the number and the span of each length-delimited field of a message, passing over all others."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _BYTES:
            length, at = _varint(data, at, end)
            if at + length > end:
                raise _NotProtobufError
            yield number, (at, at + length)
            at += length
        elif kind in _FIXED_SIZES:
            at += _FIXED_SIZES[kind]
        else:
            raise _NotProtobufError


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:  # noqa: PLR2004  (a varint holds at most 64 bits)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  (the top bit says that more follows)
            return value, at
        shift += 7
    raise _NotProtobufError
