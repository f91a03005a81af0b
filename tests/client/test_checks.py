"""What is found before anything is sent, and what the person is told."""

from __future__ import annotations

import numpy as np
import pytest

from tritonnb.client import ModelMetadata, TensorMetadata
from tritonnb.client.checks import check_inputs
from tritonnb.errors import InferenceError

IMAGE = TensorMetadata("data_0", "FP32", (-1, 3, 2, 2))
PICTURE = np.zeros((1, 3, 2, 2), "float32")


def model(*inputs, max_batch_size=4):
    return ModelMetadata("m", ("1",), "p", inputs, (), max_batch_size)


def vector(datatype):
    """Return a model without a batch dimension that takes a vector of any length."""
    return model(TensorMetadata("x", datatype, (-1,)), max_batch_size=0)


def refused(metadata, inputs):
    with pytest.raises(InferenceError) as caught:
        check_inputs(metadata, inputs)
    return caught.value.message, caught.value.hint


def test_an_array_that_fits_passes_untouched():
    assert check_inputs(model(IMAGE), {"data_0": PICTURE})["data_0"] is PICTURE


def test_an_optional_input_may_be_left_out():
    optional = TensorMetadata("mask", "BOOL", (-1, 4), optional=True)

    assert list(check_inputs(model(IMAGE, optional), {"data_0": PICTURE})) == ["data_0"]


def test_an_unknown_name_is_answered_with_the_nearest():
    message, hint = refused(model(IMAGE), {"data": PICTURE})

    assert message == "model 'm' has no input 'data'."
    assert hint == "did you mean 'data_0'?"


def test_missing_inputs_are_named_with_what_they_should_be():
    message, hint = refused(model(IMAGE, TensorMetadata("k", "INT32", (-1, 1))), {"data_0": PICTURE})

    assert message == "model 'm' needs the input 'k', not given here."
    assert hint == "expected: k INT32 [N, 1]."


def test_a_request_of_nothing_is_refused_even_if_every_input_is_optional():
    message, _ = refused(model(TensorMetadata("x", "INT32", (-1, 1), optional=True)), {})

    assert "needs the input 'x'" in message


@pytest.mark.parametrize(
    ("metadata", "array", "message", "hint"),
    [
        (
            model(IMAGE),
            PICTURE[0],
            "the input 'data_0' has the shape [3, 2, 2], [N, 3, 2, 2] is expected: the batch dimension is missing.",
            "add it with x[None], or numpy.expand_dims(x, 0).",
        ),
        (
            model(TensorMetadata("data_0", "FP32", (-1, 3, -1, 2)), max_batch_size=0),
            PICTURE[0],
            "the input 'data_0' has the shape [3, 2, 2], [?, 3, ?, 2] is expected: the first dimension is missing.",
            "add it with x[None], or numpy.expand_dims(x, 0).",
        ),
        (
            model(IMAGE),
            PICTURE[None],
            "the input 'data_0' has the shape [1, 1, 3, 2, 2], [N, 3, 2, 2] is expected: one dimension too many.",
            "take the first one off with x[0].",
        ),
        (
            model(IMAGE),
            PICTURE.transpose(0, 2, 3, 1),
            (
                "the input 'data_0' has the shape [1, 2, 2, 3], [N, 3, 2, 2] is expected: "
                "it is channels last, the model takes channels first."
            ),
            "turn it with x.transpose(0, 3, 1, 2).",
        ),
        (
            vector("FP32"),
            PICTURE,
            "the input 'x' has the shape [1, 3, 2, 2], [?] is expected.",
            "",
        ),
        (
            model(TensorMetadata("x", "FP32", (-1, 2))),
            np.float32(1),
            "the input 'x' has the shape [], [N, 2] is expected: it is a single value.",
            "give as many as the model takes.",
        ),
        (
            model(IMAGE),
            PICTURE[:0],
            "the batch is empty; model 'm' takes 1 to 4.",
            "Triton refuses a batch of none: leave such a request out.",
        ),
        (
            model(IMAGE),
            np.repeat(PICTURE, 5, axis=0),
            "model 'm' takes at most 4 in a batch, 5 were given.",
            "`infer_many` sends it in parts; or raise the model's max_batch_size.",
        ),
    ],
    ids=["no batch", "no first", "one too many", "channels last", "rank", "scalar", "empty", "batch too large"],
)
def test_a_wrong_shape_is_answered_with_the_right_one_and_the_cure(metadata, array, message, hint):
    assert refused(metadata, {metadata.inputs[0].name: array}) == (message, hint)


def test_inputs_of_different_batch_sizes_are_refused():
    metadata = model(TensorMetadata("a", "FP32", (-1, 1)), TensorMetadata("b", "FP32", (-1, 1)))

    message, _ = refused(metadata, {"a": [[1.0], [2.0]], "b": [[1.0]]})

    assert message == "all inputs of a request must have the same batch size, but a has 2, b has 1."


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT32", [1, 2]),
        ("INT32", np.array([1, -(2**31)])),
        ("UINT64", np.array([0, 2**63 - 1])),
        ("INT64", np.array([2**63 - 1], dtype="uint64")),
        ("UINT8", np.array([0, 255])),
        ("INT8", np.array([True, False])),
        ("FP32", np.array([True, False])),
        ("FP32", np.array([1, 2**24, 2**30])),
        ("FP32", np.array([-(2**63)])),
        ("FP16", np.array([2048])),
        ("FP64", np.array([2**53])),
        ("FP32", np.array([0.5, np.inf, np.nan])),
        ("FP64", np.array([0.1], dtype="float32")),
        ("FP32", [0.1, 1]),
        ("FP32", (0.1, float("inf"))),
        ("FP32", np.array([0.1], dtype=">f4")),
        ("INT16", np.array([1, 2], dtype=">i8")),
    ],
)
def test_a_cast_that_loses_nothing_is_made(datatype, value):
    metadata = vector(datatype)

    cast = check_inputs(metadata, {"x": value})["x"]

    assert cast.dtype == {"FP16": "float16", "FP32": "float32", "FP64": "float64"}.get(datatype, datatype.lower())
    np.testing.assert_array_equal(cast, np.asarray(value, dtype=cast.dtype))


@pytest.mark.parametrize(
    ("datatype", "value", "given"),
    [
        ("INT32", np.array([2**31]), "int64"),
        ("UINT8", np.array([-1]), "int64"),
        ("UINT64", np.array([-1]), "int64"),
        ("INT64", np.array([2**63], dtype="uint64"), "uint64"),
        ("INT32", np.array([1.0]), "float64"),
        ("BOOL", np.array([0, 1]), "int64"),
        ("FP32", np.array([0.1]), "float64"),
        ("FP32", np.array([1e300]), "float64"),
        ("FP32", [1e300], "float64"),
        ("FP32", [np.float64(0.1)], "float64"),
        ("FP32", np.array([2**24 + 1]), "int64"),
        ("FP32", [2**24 + 1], "int64"),
        ("FP16", np.array([70000]), "int64"),
        ("FP64", np.array([2**63 - 1]), "int64"),
        ("FP32", np.array([2**64 - 1], dtype="uint64"), "uint64"),
    ],
)
def test_a_cast_that_would_lose_something_is_refused_with_the_cure(datatype, value, given):
    message, hint = refused(vector(datatype), {"x": value})

    assert message.startswith(f"the input 'x' is {given}, {datatype} (")
    assert 'x.astype("' in hint


@pytest.mark.parametrize(
    ("datatype", "value", "message"),
    [
        ("FP32", np.array([1.0, 2.0], dtype=object), "is an array of Python objects, FP32 is expected"),
        ("FP32", ["1.0"], "is <U3, FP32 is expected"),
        ("FP32", np.array([1j]), "is complex128, FP32 is expected"),
        ("FP32", [[1.0], [1.0, 2.0]], "cannot be made into an array"),
        ("INT64", [2**70], "is an array of Python objects, INT64 is expected"),
        ("BYTES", np.array([1.0]), "is float64, BYTES (text or bytes) is expected"),
        ("BYTES", ["a", 5, 1.5], "holds float, int objects, BYTES (text or bytes) is expected"),
        ("BYTES", [None], "holds NoneType objects, BYTES (text or bytes) is expected"),
    ],
)
def test_what_is_no_number_or_no_text_is_refused_with_the_cure(datatype, value, message):
    said, hint = refused(vector(datatype), {"x": value})

    assert message in said
    assert hint


@pytest.mark.parametrize(
    "value",
    [["a", b"b\0"], np.array(["a", "b"]), np.array([b"a", b"b"]), np.array(["a", b"b\0"], dtype=object)],
    ids=["list", "U", "S", "object"],
)
def test_text_and_bytes_are_taken_as_they_are(value):
    assert check_inputs(vector("BYTES"), {"x": value})["x"].tolist() == list(value)
