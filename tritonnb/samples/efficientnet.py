"""EfficientNet-Lite0 as an ONNX graph, from PyTorch's weights and without PyTorch.

The architecture is that of ``efficientnet/lite`` in TensorFlow's TPU repository: no squeeze-and-excite, ReLU6
throughout, a stem and a head of fixed width, SAME padding. Each batch normalisation is folded into the
convolution before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Per stage: how many blocks, and the stride of its first one. The weights tell kernel sizes and widths.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
_NORMALISATION_EPSILON = 1e-3
# Opset 13 and IR 8 are read by every onnxruntime since 1.10, so by that of every Triton image since 22.01.
_OPSET = 13
_IR_VERSION = 8


def efficientnet_lite0(weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Return EfficientNet-Lite0 with the input and output names of Azure ML's DenseNet sample.

    Parameters
    ----------
    weights
        The state dict of the PyTorch model, by name.

    Returns
    -------
    onnx.ModelProto
        From ``data_0`` float32 [N, 3, 224, 224] (RGB, -1..1) to ``fc6_1`` float32 [N, 1000] (logits).
    """
    graph = _Graph(weights)
    x = graph.convolution("data_0", "_conv_stem", "_bn0", stride=2)
    block = 0
    for repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            x = graph.inverted_residual(
                x, f"_blocks.{block}", stride=1 if repeat else first_stride, residual=repeat > 0
            )
            block += 1
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.node("GlobalAveragePool", [x], "pooled")
    x = graph.node("Flatten", [x], "features")
    fully_connected = [graph.constant(f"_fc.{part}", weights[f"_fc.{part}"]) for part in ("weight", "bias")]
    graph.node("Gemm", [x, *fully_connected], "fc6_1", transB=1)
    return graph.model()


class _Graph:
    """The nodes and constants so far; each method adds some and returns the name of what they compute."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants = [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(6), "six"),
        ]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def convolution(
        self,
        x: str,
        name: str,
        normalisation: str,
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu6: bool = True,
    ) -> str:
        kernel = self._weights[f"{name}.weight"].astype(np.float64)
        scale, shift, mean, variance = (
            self._weights[f"{normalisation}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + _NORMALISATION_EPSILON)
        folded = [
            self.constant(f"{name}.weight", kernel * factor[:, None, None, None]),
            self.constant(f"{name}.bias", shift - mean * factor),
        ]
        x = self.node(
            "Conv",
            [x, *folded],
            name,
            kernel_shape=kernel.shape[2:],
            strides=[stride, stride],
            group=len(kernel) if depthwise else 1,
            auto_pad="SAME_UPPER",
        )
        return self.node("Clip", [x, "zero", "six"], f"{name}.relu6") if relu6 else x

    def inverted_residual(self, x: str, block: str, *, stride: int, residual: bool) -> str:
        y = x
        if f"{block}._expand_conv.weight" in self._weights:
            y = self.convolution(y, f"{block}._expand_conv", f"{block}._bn0")
        y = self.convolution(y, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride, depthwise=True)
        y = self.convolution(y, f"{block}._project_conv", f"{block}._bn2", relu6=False)
        return self.node("Add", [x, y], f"{block}.sum") if residual else y

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, ["N", 3, 224, 224])],
            [helper.make_tensor_value_info("fc6_1", TensorProto.FLOAT, ["N", 1000])],
            self._constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="tritonnb",
        )
        onnx.checker.check_model(model)
        return model
