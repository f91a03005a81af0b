"""The codec, byte for byte beside tritonclient's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from tritonnb.client.tensors import (
    DTYPES,
    datatype_of,
    decode_answer,
    decode_tensor,
    dtype_of,
    encode_request,
    encode_tensor,
    json_data,
)
from tritonnb.errors import InferenceError, ServerError

ALL = sorted([*DTYPES, "BF16"])
NUMERIC = [datatype for datatype in ALL if datatype != "BYTES"]
RANDOM = np.random.default_rng(7)


def sample(datatype, shape=(2, 3)):
    if datatype == "BYTES":
        words = [b"plain", "grün".encode(), b"", b"nul\0\0", b"\xff\x00\xfe", b"x" * 300]
        return np.array(words, dtype=object).reshape(2, 3)
    raw = RANDOM.integers(0, 2, size=shape) if datatype == "BOOL" else RANDOM.uniform(0, 100, size=shape)
    return raw.astype(dtype_of(datatype))


def header_and_tensors(body, header_length):
    """Take the JSON apart: whether there are blanks in it differs between tritonclient's releases."""
    return json.loads(body[:header_length]), body[header_length:]


def reference_request(inputs, outputs=None, request_id="", *, binary=True):
    reference = []
    for name, (datatype, array) in inputs.items():
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        reference.append(tensor)
    wanted = [InferRequestedOutput(name, binary_data=binary) for name in outputs] if outputs else None
    return header_and_tensors(
        *InferenceServerClient.generate_request_body(reference, outputs=wanted, request_id=request_id)
    )


def answer_of(outputs, **header):
    """Return an answer's body and header length as a server would make them."""
    pieces = [bytes(encode_tensor(array)) for _, array in outputs.values()]
    described = [
        {
            "name": name,
            "datatype": datatype,
            "shape": list(array.shape),
            "parameters": {"binary_data_size": len(piece)},
        }
        for (name, (datatype, array)), piece in zip(outputs.items(), pieces, strict=True)
    ]
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": described, **header}).encode()
    return head + b"".join(pieces), len(head)


@pytest.mark.parametrize("datatype", ALL)
def test_a_request_has_the_same_bytes_as_tritonclients(datatype):
    array = sample(datatype)

    parts, header_length = encode_request({"x": array})

    assert header_and_tensors(b"".join(parts), header_length) == reference_request({"x": (datatype, array)})


def test_a_request_with_everything_has_the_same_bytes_as_tritonclients():
    inputs = {"a": ("FP32", sample("FP32")), "b": ("BYTES", sample("BYTES")), "c": ("UINT8", sample("UINT8"))}

    parts, header_length = encode_request(
        {name: array for name, (_, array) in inputs.items()}, outputs=["p", "q"], request_id="request 1"
    )

    assert header_and_tensors(b"".join(parts), header_length) == reference_request(inputs, ["p", "q"], "request 1")


@pytest.mark.parametrize("datatype", ALL)
def test_tritonclient_and_tritonnb_read_the_same_out_of_an_answer(datatype):
    array = sample(datatype)
    body, header_length = answer_of({"y": (datatype, array)}, id="7")

    ours = decode_answer(bytearray(body), str(header_length))
    theirs = InferResult.from_response_body(body, header_length=header_length).as_numpy("y")

    assert (ours.model, ours.version, ours.id) == ("m", "1", "7")
    assert ours.outputs["y"].dtype == dtype_of(datatype) == theirs.dtype
    np.testing.assert_array_equal(ours.outputs["y"], theirs)
    np.testing.assert_array_equal(ours.outputs["y"], array)


@pytest.mark.parametrize("datatype", NUMERIC)
@pytest.mark.parametrize(
    "relaid",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1, ::-1][::-1, ::-1],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
    ],
    ids=["Fortran", "strided", "reversed", "big-endian"],
)
def test_the_bytes_do_not_depend_on_how_the_array_lies_in_memory(datatype, relaid):
    array = sample(datatype)

    assert bytes(encode_tensor(relaid(array))) == array.tobytes()


def elements_of(datatype):
    """Return what a tensor of a datatype may hold."""
    if datatype == "BF16":
        return st.floats(width=16)
    if datatype == "BYTES":
        return st.binary(max_size=9)
    return arrays_of.from_dtype(DTYPES[datatype])


ARRAYS = st.sampled_from(ALL).flatmap(
    lambda datatype: arrays_of.arrays(
        dtype=dtype_of(datatype),
        shape=arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=elements_of(datatype),
    )
)


@given(ARRAYS, st.permutations(range(4)), st.booleans())
def test_any_array_comes_back_as_it_went(array, axes, swapped):
    sent = array.transpose([axis for axis in axes if axis < array.ndim])
    if swapped:
        sent = sent[..., ::-1].astype(sent.dtype.newbyteorder(">"))[..., ::-1] if sent.ndim else sent
    datatype = datatype_of(sent.dtype)

    back = decode_tensor(bytearray(encode_tensor(sent)), datatype, sent.shape)

    assert back.dtype == array.dtype
    assert back.shape == sent.shape
    assert back.flags.writeable
    assert back.flags.aligned
    if datatype == "BYTES":
        assert back.tolist() == sent.tolist()
    else:  # to the bit: NaN is not equal to itself
        assert back.tobytes() == sent.astype(back.dtype).tobytes()


@given(ARRAYS)
def test_any_array_comes_back_from_json_as_it_went(array):
    datatype = datatype_of(array.dtype)
    if datatype in ("FP16", "BF16"):
        array, datatype = array.astype(np.float32), "FP32"
    if datatype == "BYTES":
        array = np.array([element.hex() for element in array.ravel()], dtype=object).reshape(array.shape)
    output = {"name": "y", "datatype": datatype, "shape": array.shape, "data": json_data(array)}

    back = decode_answer(json.dumps({"outputs": [output]}).encode()).outputs["y"]

    assert back.dtype == dtype_of(datatype)
    assert back.shape == array.shape
    wanted = [element.encode() for element in array.ravel()] if datatype == "BYTES" else array.ravel()
    np.testing.assert_array_equal(back.ravel(), np.array(wanted, dtype=back.dtype))


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_bytes_come_back_as_they_went(words):
    array = np.empty(len(words), dtype=object)
    array[:] = words

    assert decode_tensor(encode_tensor(array), "BYTES", array.shape).tolist() == words


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "grün"]]),
        np.array([["a", "grün"]], dtype=object),
        np.array([[b"a", "grün".encode()]]),
        np.array([["a", "grün".encode()]], dtype=object),
        np.array([[np.str_("a"), np.bytes_("grün".encode())]], dtype=object),
        np.array([["a", bytearray("grün".encode())]], dtype=object),
    ],
    ids=["U", "str", "S", "mixed", "numpy scalars", "bytearray"],
)
def test_text_and_bytes_go_in_any_of_numpys_ways(array):
    assert bytes(encode_tensor(array)) == b"\1\0\0\0a\5\0\0\0gr\xc3\xbcn"


def test_an_array_of_other_objects_is_refused():
    with pytest.raises(InferenceError, match="must be str or bytes, not float") as caught:
        encode_tensor(np.array(["a", 1.5], dtype=object))
    assert "astype" in caught.value.hint


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]"])
def test_a_dtype_that_triton_lacks_is_refused(dtype):
    with pytest.raises(InferenceError, match="no counterpart"):
        encode_tensor(np.zeros(2, dtype=dtype))


@pytest.mark.parametrize("datatype", sorted({*ALL} - {"FP16", "BF16"}))
def test_a_request_in_json_says_the_same_as_tritonclients(datatype):
    array = sample(datatype)
    if datatype == "BYTES":
        array = np.array(["plain", "grün", "", b"bytes", "nul\0", "x" * 300], dtype=object).reshape(2, 3)

    (body,), length = encode_request({"x": array}, outputs=["y"], binary=False)

    assert length == len(body)
    assert json.loads(body) == reference_request({"x": (datatype, array)}, ["y"], binary=False)[0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (sample("FP16"), "FP16 tensors as bytes only"),
        (sample("BF16"), "BF16 tensors as bytes only"),
        (sample("BYTES"), "no UTF-8 text"),
        (np.array([1.5], dtype=object), "must be str or bytes, not float"),
    ],
    ids=["FP16", "BF16", "binary", "objects"],
)
def test_what_json_cannot_hold_is_refused(array, message):
    with pytest.raises(InferenceError, match=message) as caught:
        encode_request({"x": array}, binary=False)
    assert caught.value.hint


def test_nan_and_infinities_travel_in_json():
    array = np.array([np.nan, np.inf, -np.inf, -0.0], dtype=np.float32)

    (body,), _ = encode_request({"x": array}, binary=False)

    assert b'"data":[NaN,Infinity,-Infinity,-0.0]' in body


def test_outputs_that_come_as_json_are_read_too():
    body = json.dumps(
        {
            "model_name": "m",
            "outputs": [
                {"name": "y", "datatype": "INT64", "shape": [1, 2], "data": [1, 2**62]},
                {"name": "s", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "grün"]},
            ],
        }
    ).encode()

    answer = decode_answer(body)

    assert answer.outputs["y"].tolist() == [[1, 2**62]]
    assert answer.outputs["s"].tolist() == [[b"a"], ["grün".encode()]]


@pytest.mark.parametrize("datatype", ALL)
def test_an_answer_cut_short_anywhere_is_an_error(datatype):
    body, header_length = answer_of({"y": (datatype, sample(datatype))})

    for length in range(len(body)):
        with pytest.raises(ServerError, match="cannot be read"):
            decode_answer(body[:length], str(header_length))


def test_an_answer_with_bytes_left_over_is_an_error():
    body, header_length = answer_of({"y": ("FP32", sample("FP32"))})

    with pytest.raises(ServerError, match="24 bytes, but 25 came"):
        decode_answer(body + b"\0", str(header_length))


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        (b"not JSON", b""),
        (b"[]", b""),
        (b'{"outputs": 5}', b""),
        (b'{"outputs": [{"name": "y"}]}', b""),
        (b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [2]}]}', b"ab"),
        (b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [2], "data": [1]}]}', b""),
        (b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [1], "data": ["a"]}]}', b""),
        (
            b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [-2], "parameters": {"binary_data_size": 2}}]}',
            b"ab",
        ),
        (
            b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 2}}]}',
            b"ab",
        ),
        (b"[" * 100_000, b""),
    ],
)
def test_a_garbled_header_is_an_error(header, tensors):
    with pytest.raises(ServerError, match="cannot be read"):
        decode_answer(header + tensors, str(len(header)))


@pytest.mark.parametrize("header_length", ["-1", "99", "many", ""])
def test_a_garbled_header_length_is_an_error(header_length):
    with pytest.raises(ServerError, match="cannot be read"):
        decode_answer(b"{}", header_length)


@pytest.mark.parametrize("raw", [b"\1", b"\1\0\0\0", b"\5\0\0\0ab", b"\xff\xff\xff\xffab", b"\0\0\0\0\0\0\0\0\0\0\0\0"])
def test_a_garbled_bytes_tensor_is_an_error(raw):
    with pytest.raises(ServerError, match="cannot be read"):
        decode_tensor(raw, "BYTES", [2])
