"""The rules of the onnxruntime backend, each on a model of its own, in a real tritonserver."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

import tritonnb as tn

pytestmark = pytest.mark.requires("engine")

TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "STRING": np.object_,
}

# What the reason must say of each model that cannot be served.
REASONS = {
    "max_batch_on_fixed": "does not support batching while non-zero max_batch_size is specified: 'x' has the fixed",
    "max_batch_on_fixed_both_written": "max_batch_size is 8, but input 'x' has the fixed first dimension 1",
    "max_batch_on_scalar": "is a scalar (rank 0), which has no first dimension",
    "inputs_in_part": "configuration expects 1 inputs, model provides 2: add b",
    "wrong_name": "unexpected inference input 'xx', allowed inputs are: x. Did you mean 'x'?",
    "wrong_type": "configuration expects datatype TYPE_INT32 for input 'x', model provides TYPE_FP32",
    "wrong_dims": "the model expects 2 dimensions (shape [-1, 2]) but the configuration specifies 3 dimensions",
    "wrong_scalar_dims": "scalar tensor 'x' takes dims: [ 1 ]",
    "optional_with_batching": "optional input 'x' is not supported for models that support batching",
    "ragged": "allow_ragged_batch on 'x' is not supported",
    "bad_parameter": "parameter execution_mode: expected 0 or 1, got '7'",
    "bfloat16": "input 'x' is tensor(bfloat16), which is not supported",
    "zipmap": "output 'probabilities' is seq(map(int64,tensor(float))), and Triton carries tensors only",
    "cut_off": "model.onnx is not an ONNX model or is cut off",
    "empty": "model.onnx is not an ONNX model or is cut off (0 bytes)",
    "git_lfs": "model.onnx is a Git LFS pointer",
    "unknown_operator": "model.onnx cannot be loaded: ",
}


@pytest.fixture(scope="module")
def dep(onnx_repository):
    with tn.deploy(onnx_repository, name="onnx-backend", engine="embedded") as dep:
        yield dep


def dims(tensors):
    return {tensor["name"]: [int(dim) for dim in tensor["dims"]] for tensor in tensors}


# What is completed ----------------------------------------------------------------------------------------------------


def test_a_model_whose_every_first_dimension_is_dynamic_batches_up_to_4(dep):
    config = dep.config("types")
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    assert (config["platform"], config["backend"]) == ("onnxruntime_onnx", "onnxruntime")


@pytest.mark.parametrize("data_type", TYPES)
def test_data_types_are_completed_and_dims_leave_the_batch_dimension_out(dep, data_type):
    config = dep.config("types")
    for side, name in (("input", f"in_{data_type}"), ("output", f"out_{data_type}")):
        tensor = next(tensor for tensor in config[side] if tensor["name"] == name)
        assert tensor["data_type"] == f"TYPE_{data_type}"
        assert [int(dim) for dim in tensor["dims"]] == [2]


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        pytest.param("fixed", {"x": [1, 3]}, {"y": [1, 3]}, id="all fixed"),
        pytest.param("fixed_second", {"a": [-1, 2], "b": [2, 3]}, {"y": [-1, 3]}, id="one input fixed"),
        pytest.param("summed", {"x": [-1, 2]}, {"y": [1, 2]}, id="output fixed"),
        pytest.param("scalar", {"x": [1]}, {"y": [1]}, id="scalar"),
    ],
)
def test_a_fixed_first_dimension_anywhere_means_no_batching_and_whole_shapes(dep, model, inputs, outputs):
    config = dep.config(model)
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config
    assert dims(config["input"]) == inputs
    assert dims(config["output"]) == outputs


def test_dynamic_dimensions_inside_become_minus_1(dep):
    assert dims(dep.config("dynamic_inside")["input"]) == {"x": [-1, -1, 3]}


def test_a_batch_of_scalars_is_reshaped_from_n_by_1(dep):
    tensor = dep.config("batch_of_scalars")["input"][0]
    assert tensor["dims"] in ([1], ["1"])
    assert tensor["reshape"] == {"shape": []}
    y = dep.infer("batch_of_scalars", {"x": np.array([[1], [2], [3]], np.float32)})["y"]
    np.testing.assert_array_equal(y, [[1], [2], [3]])


@pytest.mark.parametrize(
    ("model", "max_batch_size", "dynamic_batching"),
    [("max_batch_written", 8, True), ("max_batch_1", 1, False), ("sequence", 2, False)],
)
def test_dynamic_batching_is_added_for_a_batch_of_more_than_1_without_a_scheduler(
    dep, model, max_batch_size, dynamic_batching
):
    config = dep.config(model)
    assert config["max_batch_size"] == max_batch_size
    assert ("dynamic_batching" in config) == dynamic_batching


def test_written_outputs_are_kept_and_missing_inputs_completed(dep):
    config = dep.config("output_written")
    assert (dims(config["input"]), dims(config["output"])) == ({"x": [2]}, {"y": [2]})
    assert config["max_batch_size"] == 4


def test_nothing_is_completed_where_inputs_and_outputs_are_written(dep):
    config = dep.config("both_written")
    assert config["max_batch_size"] == 0
    assert dims(config["input"]) == {"x": [-1, 2]}


def test_a_written_input_may_be_narrower_than_the_model(dep):
    assert dep.infer("narrower", {"x": np.ones((2, 5), np.float32)})["y"].shape == (2, 5)
    with pytest.raises(tn.TritonNbError):
        dep.infer("narrower", {"x": np.ones((2, 6), np.float32)})


@pytest.mark.parametrize("setting", ["onnxruntime,default-max-batch-size=7", "default-max-batch-size=7"])
def test_the_default_of_4_is_the_server_s_to_change(onnx_repository, setting):
    model = onnx_repository / "max_batch_1" / "1" / "model.onnx"
    with tn.deploy(model, name="seven", engine="embedded", server={"flags": {"backend-config": setting}}) as dep:
        assert [dep.config(state.name)["max_batch_size"] for state in dep.models()] == [7]


@pytest.fixture(scope="module")
def reasons(dep):
    return {model.name: model.reason for model in dep.models() if model.state != "READY"}


@pytest.mark.parametrize(("model", "reason"), REASONS.items(), ids=REASONS)
def test_what_cannot_be_served_says_why_by_name(reasons, model, reason):
    assert reason in reasons[model]


def test_nothing_else_failed(reasons):
    assert reasons.keys() == REASONS.keys()


# What is answered -----------------------------------------------------------------------------------------------------


def sample(data_type):
    if data_type == "STRING":
        return np.array([["plain", ""], ["naïve ☃", "a\nb"]], object)
    if data_type == "BOOL":
        return np.array([[True, False], [False, True]])
    numpy_type = TYPES[data_type]
    extremes = np.finfo(numpy_type) if data_type.startswith("FP") else np.iinfo(numpy_type)
    return np.array([[0, 1], [extremes.min, extremes.max]], numpy_type)


@pytest.fixture(scope="module")
def answers(dep):
    return dep.infer("types", {f"in_{data_type}": sample(data_type) for data_type in TYPES})


@pytest.mark.parametrize("data_type", TYPES)
def test_every_data_type_goes_through_unchanged(answers, data_type):
    got, sent = answers[f"out_{data_type}"], sample(data_type)
    if data_type == "STRING":
        assert [text.decode() for text in got.ravel()] == list(sent.ravel())
    else:
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)


def test_scalars_are_sent_and_given_as_one_element(dep):
    np.testing.assert_array_equal(dep.infer("scalar", {"x": np.array([7], np.float32)})["y"], [7])
    assert dep.infer("scalar_string", {"x": np.array(["é"], object)})["y"].tolist() == ["é".encode()]


def test_only_the_requested_outputs_are_sent(dep):
    assert list(dep.infer("lookup", {"ids": [[1]]}, outputs=["rows"])) == ["rows"]


def test_an_input_that_the_model_stores_may_be_left_out(dep):
    x = np.ones(2, np.float32)
    np.testing.assert_array_equal(dep.infer("overridable", {"x": x})["y"], [2, 3])
    np.testing.assert_array_equal(dep.infer("overridable", {"x": x, "w": x * 5})["y"], [5, 5])


def test_a_folder_named_model_onnx_holds_external_data(dep):
    np.testing.assert_array_equal(dep.infer("external_data", {"x": np.ones(2, np.float32)})["y"], [2, 3])


def test_sequence_controls_reach_the_model(dep):
    def begin(start):
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
        body = {
            "parameters": {"sequence_id": 1, "sequence_start": start, "sequence_end": not start},
            "inputs": [tensor],
        }
        with urllib.request.urlopen(f"{dep.url}/v2/models/controls/infer", json.dumps(body).encode()) as answer:
            return json.load(answer)["outputs"][0]["data"]

    assert [begin(start=True), begin(start=False)] == [[101], [1]]


def test_a_model_with_every_documented_parameter_serves(dep):
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(dep.infer("parameters", {"x": x})["y"], x)


def test_a_failing_request_carries_the_reason_of_onnxruntime(dep):
    with pytest.raises(tn.TritonNbError, match=r"onnx runtime error 2: .*indices element out of data bounds, idx=10"):
        dep.infer("lookup", {"ids": [[10]]})


def test_text_that_is_not_utf_8_is_refused_and_the_model_goes_on(dep):
    with pytest.raises(tn.TritonNbError, match="not valid UTF-8"):
        dep.infer("scalar_string", {"x": np.array([b"\xff"], object)})
    assert dep.infer("scalar_string", {"x": np.array(["a"], object)})["y"].tolist() == [b"a"]


# What dynamic batching delivers together ------------------------------------------------------------------------------


def infer_at_once(dep, model, inputs, outputs=None):
    """Send one request for each of ``inputs`` at the same time; a result or an error for each."""
    barrier = threading.Barrier(len(inputs))

    def send(arrays, wanted):
        barrier.wait()
        try:
            return dep.infer(model, arrays, outputs=wanted)
        except tn.TritonNbError as error:
            return error

    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(send, inputs, outputs or [None] * len(inputs)))


def test_requests_of_one_dynamic_batch_are_answered_by_one_run(dep):
    before = dep.statistics("together")[0]
    results = infer_at_once(dep, "together", [{"ids": [[n, n + 1]]} for n in (1, 3, 5, 7)])
    after = dep.statistics("together")[0]

    # `rows` is what the model itself saw: the statistics alone would be the same for four runs.
    assert [result["rows"].tolist() for result in results] == [[[4]]] * 4
    assert [result["y"].tolist() for result in results] == [[[10, 20]], [[30, 40]], [[50, 60]], [[70, 80]]]
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 1


def test_requests_of_several_rows_get_their_own_rows_back(dep):
    first, second = infer_at_once(dep, "together", [{"ids": [[1], [2], [3]]}, {"ids": [[4]]}])
    assert (first["y"].tolist(), second["y"].tolist()) == ([[10], [20], [30]], [[40]])
    assert second["rows"].tolist() == [[4]]


def test_a_failing_request_does_not_fail_the_others_of_its_batch(dep):
    results = infer_at_once(dep, "together", [{"ids": [[n]]} for n in (1, 99, 3, 4)])
    assert "out of data bounds, idx=99" in str(results[1])
    assert [results[index]["y"].tolist() for index in (0, 2, 3)] == [[[10]], [[30]], [[40]]]


def test_each_request_of_a_batch_gets_the_outputs_it_asked_for(dep):
    wanted = [["y"], ["rows"], ["y", "rows"], ["y"]]
    results = infer_at_once(dep, "together", [{"ids": [[2]]}] * 4, wanted)
    assert [sorted(result) for result in results] == [sorted(names) for names in wanted]


def test_a_model_whose_outputs_are_not_row_by_row_answers_each_request_for_itself(dep):
    results = infer_at_once(dep, "doubled", [{"x": np.full((1, 2), n, np.float32)} for n in range(4)])
    assert [result["y"].tolist() for result in results] == [[[n, n], [n, n]] for n in range(4)]


# What it costs --------------------------------------------------------------------------------------------------------


def thread_count(instance):
    """Count the threads of the stub process that runs ``instance``."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if instance in command and "triton_python_backend_stub" in command[0]:
                return process.num_threads()
        except psutil.Error:  # it ended in the meantime
            continue
    raise AssertionError(f"no stub process of {instance}")


@pytest.mark.parametrize(("model", "threads"), [("threads_3", 3), ("threads_default", len(os.sched_getaffinity(0)))])
def test_intra_op_threads_are_what_is_written_else_the_cores_shared_by_the_instances(dep, model, threads):
    assert dep.metadata(model)
    assert thread_count(f"{model}_0_0") - thread_count("threads_1_0_0") == threads - 1
