"""The same lines ask onnxruntime and Triton, and get the same."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tritonnb
from tritonnb.errors import DeploymentError, InferenceError

pytestmark = pytest.mark.requires("engine")

TYPES = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}
VALUES = {
    "float": [[0.5, -1]],
    "double": [[0.1, 2]],
    "float16": [[0.5, 7]],
    "int64": [[2**60, -1]],
    "uint8": [[0, 255]],
    "bool": [[True, False]],
    "string": [["grün", "nul\0"]],
}


def model(*, batch):
    """Return an ONNX model that gives back inputs of every type, the floats squared."""
    shape = ["N", 2] if batch else [1, 2]

    def tensor(name, kind):
        return helper.make_tensor_value_info(name, TYPES[kind], shape)

    nodes = [
        helper.make_node("Mul", [f"in_{t}"] * 2, [f"out_{t}"])
        if t == "float"
        else helper.make_node("Identity", [f"in_{t}"], [f"out_{t}"])
        for t in TYPES
    ]
    graph = helper.make_graph(
        nodes, "types", [tensor(f"in_{t}", t) for t in TYPES], [tensor(f"out_{t}", t) for t in TYPES]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the files of a model that batches and of one that does not."""
    folder = tmp_path_factory.mktemp("session")
    for name in ("batched", "single"):
        (folder / f"{name}.onnx").write_bytes(model(batch=name == "batched"))
    return folder


@pytest.fixture(scope="module")
def deployment(models):
    with tritonnb.deploy(models, name="session-tests") as deployment:
        yield deployment


@pytest.fixture(params=["batched", "single"])
def sessions(request, models, deployment):
    """Return a session of onnxruntime's, and one of ours."""
    local = onnxruntime.InferenceSession(models / f"{request.param}.onnx", providers=["CPUExecutionProvider"])
    return local, tritonnb.InferenceSession(request.param, providers=["CPUExecutionProvider"])


def feed(batch=1):
    dtypes = {"float": "float32", "double": "float64", "string": object}
    return {f"in_{t}": np.array(VALUES[t] * batch, dtypes.get(t, t)) for t in TYPES}


def told(tensors):
    return [(tensor.name, tensor.type, tensor.shape) for tensor in tensors]


def test_inputs_outputs_and_providers_are_described_alike(sessions):
    local, served = sessions

    assert told(served.get_inputs()) == told(local.get_inputs())
    assert told(served.get_outputs()) == told(local.get_outputs())
    assert served.get_providers() == local.get_providers()


@pytest.mark.parametrize("names", [None, [], ["out_string", "out_float"]], ids=["all", "none named", "chosen"])
def test_a_run_gives_the_same_arrays_in_the_same_order(sessions, names):
    local, served = sessions

    expected, got = local.run(names, feed()), served.run(names, feed())

    assert [array.dtype for array in got] == [array.dtype for array in expected]
    assert [array.tolist() for array in got] == [array.tolist() for array in expected]


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist], ids=["arrays", "lists"])
def test_a_batch_larger_than_triton_takes_at_once_comes_back_whole(models, deployment, kind):
    assert deployment.metadata("batched").max_batch_size == 4
    local = onnxruntime.InferenceSession(models / "batched.onnx")
    served = tritonnb.InferenceSession("batched", on="session-tests")
    inputs = feed(9)
    inputs["in_float"] = np.arange(18, dtype="float32").reshape(9, 2)

    expected = local.run(None, inputs)
    got = served.run(None, {name: kind(array) for name, array in inputs.items()})

    assert [array.tolist() for array in got] == [array.tolist() for array in expected]


@pytest.mark.parametrize("where", ["name", "handle", "address"])
def test_the_server_may_be_named(deployment, where):
    on = {"name": "session-tests", "handle": deployment, "address": f"{deployment.url}/"}[where]

    assert "session-tests" in repr(tritonnb.InferenceSession("batched", on=on))


def test_sessions_of_an_address_share_a_connection(deployment):
    address = deployment.url.replace("127.0.0.1", "localhost")
    first = tritonnb.InferenceSession("batched", on=address)
    second = tritonnb.InferenceSession("batched", on=address, version="1")

    try:
        for session in (first, second):
            assert session.run(["out_float"], feed())[0].tolist() == [[0.25, 1]]
    finally:
        tritonnb.deployment(address.removeprefix("http://")).delete()


def test_what_is_not_there_is_told(deployment):
    with pytest.raises(DeploymentError) as caught:
        tritonnb.InferenceSession("batchd")
    assert caught.value.hint == "did you mean 'batched'?"
    with pytest.raises(DeploymentError, match="No deployment 'session-test'"):
        tritonnb.InferenceSession("batched", on="session-test")
    session = tritonnb.InferenceSession("batched")
    with pytest.raises(InferenceError, match="no output 'out_flaot'") as caught:
        session.run(["out_flaot"], feed())
    assert caught.value.hint == "did you mean 'out_float'?"
    with pytest.raises(InferenceError, match="needs the inputs"):
        session.run(None, {"in_float": [[1, 2]]})
