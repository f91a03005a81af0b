"""No value is ever lost or changed on its way from what a person gives to the array that is sent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tritonnb.client import ModelMetadata, TensorMetadata
from tritonnb.client.checks import check_inputs
from tritonnb.client.tensors import DTYPES, decode_tensor, dtype_of, encode_tensor
from tritonnb.errors import InferenceError

NUMBERS = sorted({*DTYPES, "BF16"} - {"BYTES"})
KINDS = st.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(endianness="?"),
    arrays_of.unsigned_integer_dtypes(endianness="?"),
    arrays_of.floating_dtypes(endianness="?"),
)
# What is near the ends of what the types can hold is where casts go wrong.
INTEGERS = st.one_of(
    st.integers(),
    st.builds(
        lambda power, more, sign: sign * (2**power + more),
        st.integers(0, 66),
        st.integers(-2, 2),
        st.sampled_from([-1, 1]),
    ),
)


def vector(datatype):
    return ModelMetadata("m", ("1",), "p", (TensorMetadata("x", datatype, (-1,)),), (), 0)


def same(given, sent):
    """Tell whether two numbers are one, exactly: Python compares integers and floats without rounding."""
    return given == sent or (isinstance(given, float) and math.isnan(given) and math.isnan(sent))


def values(array):
    wide = array.astype(np.float64) if array.dtype.name == "bfloat16" else array
    return wide.tolist()


@settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(NUMBERS), KINDS.flatmap(lambda dtype: arrays_of.arrays(dtype, st.integers(0, 5))))
def test_every_value_of_an_array_is_sent_as_it_is_or_the_array_is_refused(datatype, array):
    try:
        sent = check_inputs(vector(datatype), {"x": array})["x"]
    except InferenceError:
        return
    assert sent.dtype == dtype_of(datatype)
    assert sent.shape == array.shape
    assert all(map(same, values(array), values(sent)))


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.sampled_from(NUMBERS), st.lists(st.one_of(INTEGERS, st.booleans(), st.floats(), st.floats(width=16)), min_size=1)
)
def test_every_integer_of_a_list_is_sent_as_it_is_and_a_float_to_the_models_precision(datatype, numbers):
    try:
        sent = check_inputs(vector(datatype), {"x": numbers})["x"]
    except InferenceError:
        return
    assert sent.dtype == dtype_of(datatype)
    for number, as_sent in zip(numbers, values(sent), strict=True):
        if isinstance(number, float) and datatype in ("FP16", "BF16", "FP32"):
            assert same(float(np.float64(number).astype(sent.dtype)), as_sent)
        else:
            assert same(number, as_sent)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_value_that_a_datatype_has_can_be_given_in_its_own_dtype(datatype):
    ones = np.ones(3, dtype_of(datatype))

    assert check_inputs(vector(datatype), {"x": ones})["x"] is ones


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(st.one_of(st.text(), st.binary(), st.binary().map(lambda b: b + b"\0"), st.text().map(lambda t: t + "\0")))
)
def test_every_text_and_all_bytes_are_sent_whole(texts):
    raw = encode_tensor(check_inputs(vector("BYTES"), {"x": texts})["x"])

    expected = [text.encode() if isinstance(text, str) else text for text in texts]
    assert decode_tensor(raw, "BYTES", [len(texts)]).tolist() == expected


def test_a_text_that_is_no_unicode_is_refused_with_the_cure():
    with pytest.raises(InferenceError, match="cannot be sent: surrogates not allowed") as caught:
        encode_tensor(check_inputs(vector("BYTES"), {"x": ["a\udc80"]})["x"])
    assert "os.fsencode" in caught.value.hint
