"""What several rooms' tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def square() -> bytes:
    """Return an ONNX model with y = x * x over [N, 4] FP32."""
    from onnx import TensorProto, helper

    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "square", tensor[:1], tensor[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()
