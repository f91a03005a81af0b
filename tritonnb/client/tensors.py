"""The tensor formats of the v2 protocol, binary and JSON: numpy arrays to bytes and back.

A request or an answer is a JSON header followed by the raw little-endian, row-major bytes of its tensors, in
the header's order; the HTTP header ``Inference-Header-Content-Length`` says where the JSON ends. The rules are
those of Triton's ``extension_binary_data.md``; the bytes are the same as tritonclient's. A tensor may also stand in
the JSON itself, as ``data``.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tritonnb.errors import InferenceError, ServerError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"

#: Triton's datatype to the numpy dtype that holds it; BF16, which is not numpy's, is known to `dtype_of`. BYTES is an
#: array of ``bytes`` objects.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_LITTLE_ENDIAN = {datatype: dtype.newbyteorder("<") for datatype, dtype in DTYPES.items()}
_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
_LENGTH = struct.Struct("<I")
_USUAL = 4096  # no JSON that is longer is remembered
_BINARY_ONLY = ("FP16", "BF16")


@dataclass(frozen=True)
class InferAnswer:
    """What the server answered to an inference request.

    Parameters
    ----------
    model, version
        The model that answered.
    id
        The request's id, empty where none was given.
    outputs
        The arrays by output name, each of the output's shape and of the dtype in `DTYPES`.
    parameters
        What was said beside them.
    """

    model: str
    version: str
    id: str
    outputs: dict[str, NDArray[Any]]
    parameters: dict[str, Any]


def dtype_of(datatype: str) -> np.dtype[Any]:
    """Return the numpy dtype of a Triton datatype such as ``"FP32"``.

    Raises
    ------
    InferenceError
        It is not one of Triton's datatypes.
    """
    dtype = DTYPES.get(datatype)
    if dtype is not None:
        return dtype
    if datatype == "BF16":
        import ml_dtypes  # noqa: PLC0415  (few models have such tensors)

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    raise InferenceError(
        f"{datatype!r} is not a datatype of the v2 protocol.", hint=nearest(datatype, [*DTYPES, "BF16"])
    )


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return Triton's datatype for a numpy dtype of any byte order.

    Raises
    ------
    InferenceError
        Triton has no such datatype (complex numbers, dates, records).
    """
    if dtype.kind in "SU":
        return "BYTES"
    datatype = _DATATYPES.get(dtype.newbyteorder("="))
    if datatype is not None:
        return datatype
    if dtype.name == "bfloat16":
        return "BF16"
    raise InferenceError(f"numpy's {dtype} has no counterpart in Triton.", hint=f"known: {', '.join(DTYPES)}, BF16.")


def encode_tensor(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array as they go over the wire.

    Parameters
    ----------
    array
        Of any shape, byte order and memory layout. Text and bytes in an array of dtype ``object`` keep their
        trailing zero bytes; in an array of dtype ``S`` numpy has already dropped them.

    Raises
    ------
    InferenceError
        The dtype has no counterpart in Triton, or an ``object`` array holds other than text and bytes.
    """
    datatype = datatype_of(array.dtype)
    if datatype == "BYTES":
        pieces = _pieces(array.ravel().tolist())
        return memoryview(b"".join(part for piece in pieces for part in (_LENGTH.pack(len(piece)), piece)))
    flat = np.ascontiguousarray(array, dtype=_on_the_wire(datatype)).reshape(-1)
    return flat.view(np.uint8).data


def _on_the_wire(datatype: str) -> np.dtype[Any]:
    dtype = _LITTLE_ENDIAN.get(datatype)
    return dtype_of(datatype).newbyteorder("<") if dtype is None else dtype


def _pieces(elements: Iterable[object]) -> Iterator[bytes]:
    """Yield each element of a BYTES tensor as bytes."""
    for element in elements:
        if isinstance(element, str):
            try:
                yield element.encode()
            except UnicodeEncodeError as error:
                raise InferenceError(
                    f"the text {element[:40]!r} cannot be sent: {error.reason}.",
                    hint="if it stands for bytes, as the names of some files do, give them: os.fsencode(x).",
                ) from error
        elif isinstance(element, (bytes, bytearray)):
            yield bytes(element)
        else:
            raise InferenceError(
                f"an element of a BYTES tensor must be str or bytes, not {type(element).__name__}.",
                hint='for numbers as text use x.astype("str").',
            )


def decode_tensor(raw: bytes | bytearray | memoryview, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the array that the wire's bytes stand for: of ``shape``, writable, in the machine's byte order.

    Parameters
    ----------
    raw
        Exactly the tensor's bytes. A bytearray may be shared with the returned array instead of copied.
    datatype
        Triton's datatype; BYTES gives an array of ``bytes`` objects.
    shape
        With the batch dimension where there is one.

    Raises
    ------
    ServerError
        The number of bytes does not fit the shape.
    """
    dtype = dtype_of(datatype)
    count = math.prod(shape)
    if datatype == "BYTES":
        return _decode_strings(bytes(raw), count).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise _malformed(
            f"{len(raw)} bytes came for {datatype} of shape {list(shape)}, which has {count * dtype.itemsize}"
        )
    array = np.frombuffer(raw, dtype=_on_the_wire(datatype))
    # Behind a JSON of odd length the array is unaligned: right, but slow and a danger to C extensions.
    if not (array.flags.aligned and array.flags.writeable and array.dtype.isnative):
        array = array.astype(dtype)
    return array.reshape(shape)


def _decode_strings(raw: bytes, count: int) -> NDArray[np.object_]:
    elements: list[bytes] = []
    position = 0
    while position < len(raw):
        start = position + _LENGTH.size
        if start > len(raw):
            raise _malformed("a BYTES tensor ends in the middle of a length")
        position = start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]
        if position > len(raw):
            raise _malformed("a BYTES tensor ends in the middle of an element")
        elements.append(raw[start:position])
    if len(elements) != count:
        raise _malformed(f"{len(elements)} elements came in a BYTES tensor of {count}")
    array = np.empty(count, dtype=np.object_)
    array[:] = elements
    return array


def json_data(array: NDArray[Any]) -> list[Any]:
    """Return an array's elements, in row-major order, as JSON's values. NaN and the infinities stay what they are.

    Raises
    ------
    InferenceError
        An FP16 or BF16 array, which Triton takes as bytes only, or bytes that are no UTF-8 text.
    """
    datatype = datatype_of(array.dtype)
    if datatype in _BINARY_ONLY:
        raise InferenceError(
            f"Triton takes {datatype} tensors as bytes only, not as JSON.", hint="leave out binary=False."
        )
    elements: list[Any] = array.ravel().tolist()
    if datatype != "BYTES":
        return elements
    try:
        return [piece.decode() for piece in _pieces(elements)]
    except UnicodeDecodeError as error:
        raise InferenceError(
            f"bytes that are no UTF-8 text cannot travel as JSON: {error}.", hint="leave out binary=False."
        ) from error


def encode_request(
    inputs: Mapping[str, NDArray[Any]],
    *,
    outputs: Sequence[str] | None = None,
    request_id: str = "",
    classes: int = 0,
    parameters: Mapping[str, Any] | None = None,
    binary: bool = True,
) -> tuple[list[bytes | memoryview], int]:
    """Return an inference request's body in parts, and the length of its JSON header.

    Parameters
    ----------
    inputs
        Arrays by input name; their dtypes say the datatypes.
    outputs
        The outputs wanted, None for all.
    request_id
        Comes back with the answer.
    classes
        The so many best classes of each of ``outputs`` instead of its values; 0 for the values.
    parameters
        The request's own, as Triton names them.
    binary
        Whether the tensors travel as bytes; else all of the request and of its answer is JSON.

    Returns
    -------
    parts
        The JSON header, then each input's bytes, not copied where the array is contiguous and little-endian.
    header_length
        For the HTTP header ``Inference-Header-Content-Length``.

    Raises
    ------
    InferenceError
        Without ``binary``: a tensor that JSON cannot hold.
    """
    tensors = [encode_tensor(array) for array in inputs.values()] if binary else []
    header: dict[str, Any] = {"id": request_id} if request_id else {}
    header["inputs"] = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": datatype_of(array.dtype),
            **({"parameters": {"binary_data_size": tensors[n].nbytes}} if binary else {"data": json_data(array)}),
        }
        for n, (name, array) in enumerate(inputs.items())
    ]
    said = dict(parameters or {})
    if outputs:
        wanted = {"binary_data": binary} | ({"classification": classes} if classes else {})
        header["outputs"] = [{"name": name, "parameters": wanted} for name in outputs]
    elif binary:
        said["binary_data_output"] = True
    if said:
        header["parameters"] = said
    encoded = json.dumps(header, separators=(",", ":")).encode()
    return [encoded, *tensors], len(encoded)


def decode_answer(
    body: bytes | bytearray, header_length: str | None = None, placed: Mapping[str, memoryview] | None = None
) -> InferAnswer:
    """Return what the body of an inference answer says.

    Parameters
    ----------
    body
        All of it.
    header_length
        The answer's ``Inference-Header-Content-Length`` as it came; None where the answer is JSON alone.
    placed
        The room in shared memory of outputs that are not in the answer itself, by name.

    Raises
    ------
    ServerError
        The JSON cannot be read, or the lengths in it do not add up to the body's.
    """
    try:
        end = len(body) if header_length is None else int(header_length)
        if not 0 <= end <= len(body):
            raise _malformed(f"its header should have {end} bytes, but the whole body has {len(body)}")
        raw = bytes(memoryview(body)[:end])
        header = _usual_header(raw) if end <= _USUAL else _read_header(raw)
        outputs, used = _decode_outputs(header.outputs, memoryview(body)[end:], placed or {})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = error.message.rstrip(".") if isinstance(error, InferenceError) else f"{type(error).__name__}: {error}"
        raise _malformed(what) from error
    if used != len(body) - end:
        raise _malformed(f"its tensors have {used} bytes, but {len(body) - end} came")
    return InferAnswer(header.model, header.version, header.id, outputs, dict(header.parameters))


class _Output(NamedTuple):
    """An output as an answer's JSON describes it: with its elements, or with the size of its bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any
    size: int


class _Header(NamedTuple):
    """The JSON of an answer. Answers share it: it is not to be changed."""

    model: str
    version: str
    id: str
    outputs: tuple[_Output, ...]
    parameters: dict[str, Any]


def _read_header(raw: bytes) -> _Header:
    header = json.loads(raw)
    return _Header(
        str(header.get("model_name", "")),
        str(header.get("model_version", "")),
        str(header.get("id", "")),
        tuple(_read_output(output) for output in header.get("outputs", [])),
        dict(header.get("parameters", {})),
    )


#: Most answers describe their outputs as the one before did.
_usual_header = functools.lru_cache(maxsize=64)(_read_header)


def _read_output(output: Mapping[str, Any]) -> _Output:
    name, shape = str(output["name"]), tuple(int(size) for size in output["shape"])
    if min(shape, default=0) < 0:
        raise _malformed(f"output {name!r} has the shape {list(shape)}")
    parameters = output.get("parameters", {})
    size = int(parameters.get("binary_data_size", -1))
    return _Output(name, str(output["datatype"]), shape, output.get("data"), size)


def _decode_outputs(
    outputs: Sequence[_Output], raw: memoryview, placed: Mapping[str, memoryview]
) -> tuple[dict[str, NDArray[Any]], int]:
    arrays: dict[str, NDArray[Any]] = {}
    position = 0
    for name, datatype, shape, data, size in outputs:
        if data is not None:
            arrays[name] = _decode_json_data(data, datatype, shape)
        elif name in placed:
            room = math.prod(shape) * dtype_of(datatype).itemsize
            arrays[name] = decode_tensor(bytearray(placed[name][:room]), datatype, shape)
        elif 0 <= size <= len(raw) - position:
            arrays[name] = decode_tensor(raw[position : position + size], datatype, shape)
            position += size
        else:
            raise _malformed(f"output {name!r} should have {size} bytes, but {len(raw) - position} are left")
    return arrays, position


def _decode_json_data(data: object, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    if datatype == "BYTES":
        texts = np.array(data, dtype=np.object_).ravel().tolist()
        array = np.empty(len(texts), dtype=np.object_)
        array[:] = [str(text).encode() for text in texts]
        return array.reshape(shape)
    return np.array(data, dtype=dtype_of(datatype)).reshape(shape)


def _malformed(what: str) -> ServerError:
    return ServerError(
        f"the server's answer to an inference request cannot be read: {what}.",
        hint="no part of it was used; see whether a proxy stands between, and send the request again.",
    )
