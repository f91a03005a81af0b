from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonnb.repository.external_data import external_files

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


@pytest.fixture
def two_weights() -> onnx.ModelProto:
    """Return a model with two initializers of 4 KiB."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1024]) for name in "xy")
    weights = [numpy_helper.from_array(np.ones((1, 1024), np.float32), name) for name in "ab"]
    nodes = [helper.make_node("Add", ["x", "a"], ["z"]), helper.make_node("Add", ["z", "b"], ["y"])]
    return helper.make_model(helper.make_graph(nodes, "two", [x], [y], weights))


def test_weights_in_one_file_are_named_once(tmp_path, two_weights):
    onnx.save_model(two_weights, tmp_path / "net.onnx", save_as_external_data=True, location="net.onnx.data")

    assert external_files(tmp_path / "net.onnx") == ("net.onnx.data",)


def test_weights_in_a_file_each_are_all_named(tmp_path, two_weights):
    onnx.save_model(two_weights, tmp_path / "net.onnx", save_as_external_data=True, all_tensors_to_one_file=False)

    assert sorted(external_files(tmp_path / "net.onnx")) == ["a", "b"]


def test_a_model_with_its_weights_inside_has_none():
    assert external_files(LIGHT / "light_densenet121.onnx") == ()


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "", "."])
def test_a_name_that_leaves_the_folder_is_left_out(tmp_path, two_weights, location):
    onnx.external_data_helper.set_external_data(two_weights.graph.initializer[0], location)
    (tmp_path / "net.onnx").write_bytes(two_weights.SerializeToString())

    assert external_files(tmp_path / "net.onnx") == ()


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model_has_none(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)

    assert external_files(tmp_path / "net.onnx") == ()


def test_a_truncated_model_has_none(tmp_path, two_weights):
    onnx.save_model(two_weights, tmp_path / "net.onnx", save_as_external_data=True, location="w")
    whole = (tmp_path / "net.onnx").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "net.onnx").write_bytes(whole[:length])
        assert external_files(tmp_path / "net.onnx") in {(), ("w",)}
