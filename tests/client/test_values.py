"""What people give for an input becomes the array that holds just these values, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tritonnb.client import ModelMetadata, TensorMetadata
from tritonnb.client.checks import check_inputs
from tritonnb.client.tensors import encode_tensor
from tritonnb.errors import InferenceError


def model(*inputs, max_batch_size=4):
    return ModelMetadata("m", ("1",), "p", inputs, (), max_batch_size)


def sent(value, datatype="FP32", shape=(-1,), max_batch_size=0):
    """Return what is sent where ``value`` is given to a model of one input."""
    metadata = model(TensorMetadata("x", datatype, shape), max_batch_size=max_batch_size)
    return check_inputs(metadata, {"x": value})["x"]


def refused(*given, **more):
    with pytest.raises(InferenceError) as caught:
        sent(*given, **more)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("value", [5, 5.0, np.float32(5), np.array(5.0), np.int8(5), True + 4])
def test_a_single_value_gets_the_dimensions_of_one_that_the_model_asks_for(value):
    assert sent(value, shape=(-1, 1, 1), max_batch_size=4).tolist() == [[[5.0]]]


@pytest.mark.parametrize(
    "value", ["a\0", b"a\0", bytearray(b"a\0"), memoryview(b"a\0"), np.bytes_(b"a\0"), np.str_("a\0")]
)
def test_a_single_text_keeps_its_trailing_zero_bytes(value):
    array = sent(value, "BYTES", (-1, 1), max_batch_size=4)

    assert array.shape == (1, 1)
    assert bytes(encode_tensor(array)) == b"\2\0\0\0a\0"


@pytest.mark.parametrize(
    "value",
    [
        ["a\0", b"b\0"],
        ("a\0", bytearray(b"b\0")),
        [np.str_("a\0"), np.bytes_(b"b\0")],
        np.array(["a\0", b"b\0"], dtype=object),
        pd.Series(["a\0", "b\0"]),
        pd.Index(["a\0", "b\0"]),
    ],
    ids=["list", "bytearray", "numpy's scalars", "objects", "Series", "Index"],
)
def test_texts_keep_their_trailing_zero_bytes(value):
    assert bytes(encode_tensor(sent(value, "BYTES"))) == b"\2\0\0\0a\0\2\0\0\0b\0"


@pytest.mark.parametrize("dtype", ["U", "S", "T"])
def test_arrays_of_numpys_own_text_are_taken(dtype):
    if dtype == "T":
        pytest.importorskip("numpy", "2.0")
    array = np.array(["a", "b"], dtype)

    assert bytes(encode_tensor(sent(array, "BYTES"))) == b"\1\0\0\0a\1\0\0\0b"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_text_that_is_missing_is_refused(missing):
    metadata = model(TensorMetadata("x", "BYTES", (-1,)), max_batch_size=0)

    with pytest.raises(InferenceError, match="BYTES") as caught:
        check_inputs(metadata, {"x": np.array(["a", missing], dtype=object)})
    assert caught.value.hint.startswith("replace what is missing")


def test_rows_of_text_of_unequal_lengths_are_refused():
    assert "holds list objects" in refused([["a"], ["b", "c"]], "BYTES", (-1, -1))


def test_the_content_of_a_file_is_sent_where_a_model_takes_bytes(tmp_path):
    file = tmp_path / "picture.jpg"
    file.write_bytes(b"\xff\xd8 and so on\0")

    assert sent(file, "BYTES", (-1, 1), max_batch_size=4).tolist() == [[b"\xff\xd8 and so on\0"]]
    assert sent([file, b"other"], "BYTES").tolist() == [b"\xff\xd8 and so on\0", b"other"]
    assert "No such file" in refused(tmp_path / "absent", "BYTES", (-1, 1), max_batch_size=4)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_column_of_pandas_fills_a_vector_or_a_column(shape):
    column = pd.Series([1, 2, 3], index=["c", "b", "a"])

    array = sent(column, "INT32", shape, max_batch_size=0)

    assert array.ravel().tolist() == [1, 2, 3]
    assert array.ndim == len(shape)


def test_a_frame_is_rows_of_its_columns_whatever_their_dtypes():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False], "d": pd.array([7, 8], dtype="Int64")})

    assert sent(frame, shape=(-1, 4)).tolist() == [[1, 0.5, 1, 7], [2, 1.5, 0, 8]]


def test_an_integer_of_a_frame_is_not_rounded_because_a_float_stands_beside_it():
    frame = pd.DataFrame({"a": [2**53 + 1], "b": [0.5]})

    assert "some of its values would change" in refused(frame, "FP64", (-1, 2))


def test_the_columns_of_a_frame_are_the_inputs_of_a_model():
    metadata = model(TensorMetadata("name", "BYTES", (-1, 1)), TensorMetadata("size", "FP32", (-1, 1)))

    arrays = check_inputs(metadata, pd.DataFrame({"size": [0.5, 2], "name": ["a", "b"]}))

    assert arrays["name"].tolist() == [["a"], ["b"]]
    assert arrays["size"].tolist() == [[0.5], [2]]


def test_a_missing_value_of_a_column_is_refused_where_the_model_takes_integers():
    assert "INT64" in refused(pd.Series([1, None]), "INT64")
    assert "INT64" in refused(pd.Series([1, None], dtype="Int64"), "INT64")
    assert np.isnan(sent(pd.Series([1, None]), "FP32")[1])


@pytest.mark.parametrize("kind", ["non-contiguous", "big-endian", "both", "read-only", "Fortran"])
def test_arrays_in_any_layout_have_the_same_bytes(kind):
    plain = np.arange(6, dtype="float32").reshape(2, 3)
    array = {
        "non-contiguous": np.arange(12, dtype="float32").reshape(2, 6)[:, ::2] / 2,
        "big-endian": plain.astype(">f4"),
        "both": np.repeat(plain.astype(">f4"), 2, axis=1)[:, ::2],
        "read-only": plain.copy(),
        "Fortran": np.asfortranarray(plain),
    }[kind]
    array.flags.writeable = False

    assert bytes(encode_tensor(sent(array, shape=(2, 3)))) == plain.tobytes()


@pytest.mark.parametrize("value", [np.empty((0, 2), "float32"), np.empty((0, 2)), [[], []]])
def test_an_empty_array_is_sent_where_the_model_takes_any_size(value):
    shape = (0, 2) if isinstance(value, np.ndarray) else (2, 0)

    array = sent(value, shape=tuple(-1 if size == 0 else size for size in shape))

    assert (array.dtype, array.shape) == (np.dtype("float32"), shape)


def test_an_optional_input_may_be_none():
    metadata = model(TensorMetadata("x", "INT8", (-1, 1)), TensorMetadata("mask", "BOOL", (-1, 4), optional=True))

    assert list(check_inputs(metadata, {"x": 1, "mask": None})) == ["x"]
    with pytest.raises(InferenceError, match="needs the input 'x'"):
        check_inputs(metadata, {"x": None})


def test_masked_elements_are_never_sent():
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])

    assert "masked elements" in refused(masked, "FP64")
    assert sent(np.ma.masked_array([1.0, 2.0]), "FP64").tolist() == [1, 2]


@pytest.mark.parametrize("value", [{"a": 1}, (each for each in [1]), object()])
def test_what_is_no_array_is_refused_by_its_type(value):
    assert f"is of type {type(value).__name__}, FP32 is expected" in refused(value)


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        ([2**53 + 1, 0.5], "FP64"),
        ([np.int64(2**53 + 1), 0.5], "FP64"),
        ([2**24 + 1, 0.5], "FP32"),
        ([np.uint64(2**64 - 1), np.int64(-1)], "FP64"),
    ],
)
def test_an_integer_in_a_list_is_not_rounded_because_a_float_stands_beside_it(value, datatype):
    assert f"holds the integer {int(value[0])}, which {datatype} has not" in refused(value, datatype)


def test_integers_and_floats_together_are_sent_where_all_survive():
    assert sent([[1, 0.1], [True, 2**24]], shape=(-1, 2)).tolist() == [[1, np.float32(0.1)], [1, 2**24]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_torchs_tensors_are_taken_with_gradients_or_without(dtype):
    torch = pytest.importorskip("torch", reason="torch is large, and not among the development packages")
    tensor = torch.tensor([[0.0, 1], [1, 0]]).to(getattr(torch, dtype)).T
    tensor.requires_grad_(dtype in ("float32", "bfloat16"))
    datatype = {"float32": "FP32", "bfloat16": "BF16", "int64": "INT64", "bool": "BOOL"}[dtype]

    assert sent(tensor, datatype, (2, 2)).astype("float32").tolist() == [[0, 1], [1, 0]]
    assert sent([tensor, tensor], datatype, (2, 2, 2)).shape == (2, 2, 2)


def test_a_path_is_no_number():
    assert "takes no pictures" in refused(Path("net.onnx"))
