"""Inputs made up from a model's metadata: such that the model takes them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tritonnb.client import ModelMetadata, TensorMetadata
from tritonnb.client.checks import check_inputs
from tritonnb.client.random_inputs import made_up
from tritonnb.client.tensors import DTYPES
from tritonnb.errors import InferenceError, SpecError


def model(*inputs, max_batch_size=0):
    return ModelMetadata("m", ("1",), "", inputs, (), max_batch_size=max_batch_size)


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_is_made_up_in_its_own_dtype(datatype):
    metadata = model(TensorMetadata("x", datatype, (40, 3)))
    x = made_up(metadata)["x"]
    assert (x.dtype, x.shape) == (DTYPES[datatype], (40, 3))
    assert len(set(x.ravel().tolist())) > 1
    if datatype != "BYTES":
        assert x.min() >= 0
        assert x.max() <= 1
    check_inputs(metadata, {"x": x})


def test_the_batch_is_as_large_as_asked_for_and_optional_inputs_are_left_out():
    metadata = model(
        TensorMetadata("x", "FP32", (-1, 3)), TensorMetadata("k", "INT32", (-1, 1), optional=True), max_batch_size=8
    )
    assert {name: array.shape for name, array in made_up(metadata, batch_size=5).items()} == {"x": (5, 3)}
    assert set(made_up(metadata, shapes={"k": [1]})) == {"x", "k"}
    with pytest.raises(InferenceError, match="at most 8"):
        made_up(metadata, batch_size=9)


def test_an_open_shape_must_be_said():
    metadata = model(TensorMetadata("x", "FP32", (-1, 3, -1)), max_batch_size=4)
    with pytest.raises(SpecError, match=re.escape("--shape x=3,8;")):
        made_up(metadata)
    assert made_up(metadata, shapes={"x": [3, 2]})["x"].shape == (1, 3, 2)
    with pytest.raises(InferenceError, match=r"\[1, 4, 2\]"):
        made_up(metadata, shapes={"x": [4, 2]})
    with pytest.raises(SpecError, match="did you mean 'x'"):
        made_up(metadata, shapes={"xx": [3, 2]})


def test_a_seed_gives_the_same_again_and_another_one_others():
    metadata = model(TensorMetadata("x", "FP32", (8,)), TensorMetadata("s", "BYTES", (2,)))
    first, again, other = (made_up(metadata, seed=seed) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_zeros_are_zeros_and_nothing_else_can_be_made_up():
    metadata = model(TensorMetadata("x", "INT8", (2,)), TensorMetadata("s", "BYTES", (2,)))
    zeros = made_up(metadata, "zeros")
    assert (zeros["x"].tolist(), zeros["s"].tolist()) == ([0, 0], ["", ""])
    with pytest.raises(SpecError, match="did you mean 'random'"):
        made_up(metadata, "randm")
