"""ONNX models for the tests and for ``make compare-nvidia``: a small one for each rule of the onnxruntime backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

# Triton's name of each type that the backend serves.
TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "STRING": TensorProto.STRING,
}

value = helper.make_tensor_value_info
node = helper.make_node


def model(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    # ai.onnx.ml is declared for ZipMap; the IR version is what older runtimes, and Triton's, read too.
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def identity(shape, onnx_type=TensorProto.FLOAT, out_shape=None):
    """y = x."""
    return model(
        [node("Identity", ["x"], ["y"])],
        [value("x", onnx_type, shape)],
        [value("y", onnx_type, shape if out_shape is None else out_shape)],
    )


def all_types():
    """One identity for each data type: in_FP32 to out_FP32, and so on."""
    return model(
        [node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in TYPES],
        [value(f"in_{name}", onnx_type, ["N", 2]) for name, onnx_type in TYPES.items()],
        [value(f"out_{name}", onnx_type, ["N", 2]) for name, onnx_type in TYPES.items()],
    )


def lookup():
    """y[n, k] = 10 * ids[n, k], an error for ids above 9; rows[n] = number of rows of the run."""
    return model(
        [
            node("Gather", ["table", "ids"], ["y"]),
            node("Shape", ["ids"], ["count"], start=0, end=1),
            node("Concat", ["count", "one"], ["shape"], axis=0),
            node("Expand", ["count", "shape"], ["rows"]),
        ],
        [value("ids", TensorProto.INT64, ["N", "K"])],
        [value("y", TensorProto.INT64, ["N", "K"]), value("rows", TensorProto.INT64, ["N", 1])],
        [
            numpy_helper.from_array(np.arange(10) * 10, "table"),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )


def fixed_second():
    """y = a @ b: only a has a dynamic first dimension."""
    return model(
        [node("MatMul", ["a", "b"], ["y"])],
        [value("a", TensorProto.FLOAT, ["N", 2]), value("b", TensorProto.FLOAT, [2, 3])],
        [value("y", TensorProto.FLOAT, ["N", 3])],
    )


def summed():
    """y = sum of the rows of x: only the output has a fixed first dimension."""
    return model(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        [value("x", TensorProto.FLOAT, ["N", 2])],
        [value("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.array([0]), "axes")],
    )


def doubled():
    """y = x above x: the first dimension of the output is dynamic and yet not the batch."""
    return model(
        [node("Concat", ["x", "x"], ["y"], axis=0)],
        [value("x", TensorProto.FLOAT, ["N", 2])],
        [value("y", TensorProto.FLOAT, ["M", 2])],
    )


def started():
    """y = x + 100 * start; Triton gives ``start`` from the sequence of the request."""
    return model(
        [node("Mul", ["start", "hundred"], ["begun"]), node("Add", ["x", "begun"], ["y"])],
        [value("x", TensorProto.FLOAT, ["N", 1]), value("start", TensorProto.FLOAT, ["N", 1])],
        [value("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array([100], np.float32), "hundred")],
    )


def scaled(weight_is_input):
    """y = x * w, w stored in the model; an input that may be left out where ``weight_is_input``."""
    inputs = [value("x", TensorProto.FLOAT, [2])]
    if weight_is_input:
        inputs.append(value("w", TensorProto.FLOAT, [2]))
    return model(
        [node("Mul", ["x", "w"], ["y"])],
        inputs,
        [value("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array([2, 3], np.float32), "w")],
    )


def zipmap():
    """Return what a scikit-learn classifier is by default: its output is a sequence of maps."""
    of_map = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return model(
        [node("ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
        [value("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_value_info("probabilities", helper.make_sequence_type_proto(of_map))],
    )


X_FP32 = "input { name: 'x' data_type: TYPE_FP32 dims: [ %s ] }\n"
Y_FP32 = "output { name: 'y' data_type: TYPE_FP32 dims: [ %s ] }\n"
TOGETHER = """
max_batch_size: 8
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 20000000 }
"""
CONTROLS = """
max_batch_size: 2
sequence_batching { control_input { name: 'start' control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } } }
"""
THREADS = """
instance_group { count: 1 kind: KIND_CPU }
parameters { key: 'intra_op_thread_count' value: { string_value: '%d' } }
"""
ALL_PARAMETERS = """
optimization { graph { level: 1 } }
parameters { key: 'execution_mode' value: { string_value: '1' } }
parameters { key: 'inter_op_thread_count' value: { string_value: '2' } }
parameters { key: 'enable_mem_arena' value: { string_value: '1' } }
parameters { key: 'enable_mem_pattern' value: { string_value: '0' } }
parameters { key: 'memory.enable_memory_arena_shrinkage' value: { string_value: 'cpu:0' } }
"""

batching = identity(["N", 2])
fixed = identity([1, 3])

# By name: the model, and its config.pbtxt or None.
GOOD = {
    "types": (all_types(), None),
    "fixed": (fixed, None),
    "dynamic_inside": (identity(["N", "height", "width", 3]), None),
    "fixed_second": (fixed_second(), None),
    "summed": (summed(), None),
    "scalar": (identity([]), None),
    "scalar_string": (identity([], TensorProto.STRING), None),
    "batch_of_scalars": (identity(["N"]), None),
    "max_batch_written": (batching, "max_batch_size: 8"),
    "max_batch_1": (batching, "max_batch_size: 1"),
    "sequence": (batching, "max_batch_size: 2\nsequence_batching { direct { } }"),
    "output_written": (batching, "output { name: 'y' data_type: TYPE_FP32 dims: [ 2 ] }"),
    "both_written": (batching, X_FP32 % "-1, 2" + Y_FP32 % "-1, 2"),
    "narrower": (identity(["N", "width"]), "max_batch_size: 2\n" + X_FP32 % "5" + Y_FP32 % "-1"),
    "overridable": (
        scaled(weight_is_input=True),
        X_FP32 % "2" + Y_FP32 % "2" + "input { name: 'w' data_type: TYPE_FP32 dims: [ 2 ] optional: true }",
    ),
    "lookup": (lookup(), None),
    "together": (lookup(), TOGETHER),
    "doubled": (doubled(), TOGETHER),
    "controls": (started(), CONTROLS + X_FP32 % "1" + Y_FP32 % "1"),
    "parameters": (batching, ALL_PARAMETERS),
    "threads_default": (batching, "instance_group { count: 1 kind: KIND_CPU }"),
    "threads_1": (batching, THREADS % 1),
    "threads_3": (batching, THREADS % 3),
}

# By name: the model or the bytes of its file, and its config.pbtxt or None.
BAD = {
    "max_batch_on_fixed": (fixed, "max_batch_size: 8"),
    "max_batch_on_fixed_both_written": (fixed, "max_batch_size: 8\n" + X_FP32 % "3" + Y_FP32 % "3"),
    "max_batch_on_scalar": (identity([]), "max_batch_size: 8"),
    "inputs_in_part": (fixed_second(), "input { name: 'a' data_type: TYPE_FP32 dims: [ -1, 2 ] }"),
    "wrong_name": (batching, "input { name: 'xx' data_type: TYPE_FP32 dims: [ 2 ] }\n" + Y_FP32 % "2"),
    "wrong_type": (fixed, "input { name: 'x' data_type: TYPE_INT32 dims: [ 1, 3 ] }\n" + Y_FP32 % "1, 3"),
    "wrong_dims": (batching, "max_batch_size: 4\n" + X_FP32 % "-1, 2" + Y_FP32 % "2"),
    "wrong_scalar_dims": (identity([]), X_FP32 % "2" + Y_FP32 % "1"),
    "optional_with_batching": (
        batching,
        "max_batch_size: 2\ninput { name: 'x' data_type: TYPE_FP32 dims: [ 2 ] optional: true }\n" + Y_FP32 % "2",
    ),
    "ragged": (
        identity(["N"]),
        "max_batch_size: 2\ninput { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] allow_ragged_batch: true }\n"
        + Y_FP32 % "1",
    ),
    "bad_parameter": (batching, "parameters { key: 'execution_mode' value: { string_value: '7' } }"),
    "bfloat16": (identity(["N", 2], TensorProto.BFLOAT16), None),
    "zipmap": (zipmap(), None),
    "cut_off": (all_types().SerializeToString()[:-50], None),
    "empty": (b"", None),
    "git_lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None),
    "unknown_operator": (
        model([node("Frobnicate", ["x"], ["y"])], [value("x", 1, ["N"])], [value("y", 1, ["N"])]),
        None,
    ),
}


def write_repository(folder: Path) -> None:
    """Write all of them as a model repository, the good ones and the bad ones."""
    for name, (proto, config) in (GOOD | BAD).items():
        content = proto if isinstance(proto, bytes) else proto.SerializeToString()
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_bytes(content)
        if config is not None:
            (folder / name / "config.pbtxt").write_text(config)

    with_weights_beside = folder / "external_data" / "1" / "model.onnx"
    with_weights_beside.mkdir(parents=True)
    onnx.save(
        scaled(weight_is_input=False),
        with_weights_beside / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
