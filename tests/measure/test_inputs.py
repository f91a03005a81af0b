"""The inputs of the requests that are sent, from a model's metadata and from one's own arrays."""

from __future__ import annotations

import numpy as np
import pytest

from tritonnb.client.results import ModelMetadata, TensorMetadata
from tritonnb.errors import InferenceError
from tritonnb.measure.inputs import requests_of


def model(*inputs, max_batch_size=8):
    return ModelMetadata("m", ("1",), "", tuple(inputs), (), max_batch_size)


BATCHED = model(TensorMetadata("x", "FP32", (-1, 2)), TensorMetadata("label", "BYTES", (-1, 1)))


@pytest.mark.parametrize("how", ["random", "zeros"])
def test_inputs_are_made_up_with_the_batch_size(how):
    [request] = requests_of(BATCHED, how, 3)
    assert request["x"].shape == (3, 2)
    assert request["x"].dtype == np.float32
    assert request["label"].shape == (3, 1)
    assert request["x"].any() == (how == "random")


def test_random_inputs_are_the_same_in_every_run():
    [one], [other] = requests_of(BATCHED, "random", 2), requests_of(BATCHED, "random", 2)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_an_optional_input_is_left_out():
    [request] = requests_of(
        model(TensorMetadata("x", "FP32", (-1, 2)), TensorMetadata("y", "FP32", (-1, 2), optional=True)), "zeros", 1
    )
    assert set(request) == {"x"}


def test_an_open_shape_is_given_without_the_batch():
    [request] = requests_of(model(TensorMetadata("x", "UINT8", (-1, -1, 3))), "random", 4, {"x": [5, 3]})
    assert request["x"].shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("batch_size", "rows"),
    [(1, [[0], [1], [2], [3], [4]]), (2, [[0, 1], [2, 3], [4, 0]]), (8, [[0, 1, 2, 3, 4, 0, 1, 2]])],
)
def test_ones_own_rows_are_sent_in_turn(batch_size, rows):
    x = np.repeat(np.arange(5, dtype=np.float32), 2).reshape(5, 2)
    requests = requests_of(BATCHED, {"x": x, "label": [["a"]] * 5}, batch_size)
    assert [request["x"][:, 0].astype(int).tolist() for request in requests] == rows


def test_without_a_batch_dimension_a_list_of_requests_is_sent_as_it_is():
    alone = model(TensorMetadata("x", "FP32", (2,)), max_batch_size=0)
    requests = requests_of(alone, [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}], 1)
    assert [request["x"].tolist() for request in requests] == [[1, 2], [3, 4]]
    [one] = requests_of(alone, {"x": np.zeros(2, np.float32)}, 1)
    assert one["x"].shape == (2,)


def test_a_wrong_shape_is_told():
    with pytest.raises(InferenceError, match="'x' has the shape"):
        requests_of(BATCHED, {"x": np.zeros((4, 3), np.float32), "label": [["a"]] * 4}, 1)
