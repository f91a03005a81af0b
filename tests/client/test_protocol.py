"""Everything that the v2 protocol and Triton's extensions offer, on a real server; at the top a table of all of it."""

from __future__ import annotations

import ast
import gzip
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from protocol_models import write_protocol_models

import tritonnb as tn
from tritonnb.client import Client
from tritonnb.client.connection import Answer
from tritonnb.client.options import InferOptions
from tritonnb.client.requests import read_result
from tritonnb.errors import InferenceError, RequestRefusedError, ServerError, SpecError

#: What there is, and the tests that exercise it against a real server (http_server.cc, grpc_service.proto).
HTTP = {
    "GET v2/health/live": "test_server::test_health_is_true_of_a_server_that_answers_and_false_where_none_does",
    "GET v2/health/ready": "test_server::test_health_is_true_of_a_server_that_answers_and_false_where_none_does",
    "GET v2/models/M/ready": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "GET v2/models/M/versions/V/ready": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "GET v2": "test_server::test_the_server_tells_its_name_and_extensions",
    "GET v2/models/M": "test_server::test_metadata_joins_what_metadata_and_config_say",
    "GET v2/models/M/versions/V": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "POST v2/models/M/infer": "test_server::test_every_datatype_comes_back_as_it_went",
    "POST v2/models/M/versions/V/infer": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "POST v2/models/M/generate": "test_protocol::test_a_model_can_be_asked_in_plain_json",
    "POST v2/models/M/versions/V/generate": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "POST v2/models/M/generate_stream": "test_streams::test_every_answer_of_a_decoupled_model_comes_in_order",
    "POST v2/models/M/versions/V/generate_stream": "test_streams::test_a_stream_can_name_a_version_and_a_request",
    "GET v2/models/M/config": "test_server::test_config_and_statistics_come_as_triton_gives_them",
    "GET v2/models/M/versions/V/config": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "GET v2/models/stats": "test_server::test_config_and_statistics_come_as_triton_gives_them",
    "GET v2/models/M/stats": "test_server::test_config_and_statistics_come_as_triton_gives_them",
    "GET v2/models/M/versions/V/stats": "test_protocol::test_every_call_about_a_model_can_name_one_of_its_versions",
    "POST v2/repository/index": "test_protocol::test_the_index_can_be_of_the_models_alone_that_are_ready",
    "POST v2/repository/REPO/index": "test_protocol::test_the_index_can_be_of_the_models_alone_that_are_ready",
    "POST v2/repository/models/M/load": "test_protocol::test_a_load_can_bring_a_configuration_and_files",
    "POST v2/repository/models/M/unload": "test_server::test_a_model_can_be_unloaded_and_loaded_again",
    "GET v2/systemsharedmemory/status": "test_shared_memory::test_regions_are_registered_told_and_forgotten",
    "GET v2/systemsharedmemory/region/R/status": "test_shared_memory::test_regions_are_registered_told_and_forgotten",
    "POST v2/systemsharedmemory/region/R/register": (
        "test_shared_memory::test_regions_are_registered_told_and_forgotten"
    ),
    "POST v2/systemsharedmemory/region/R/unregister": (
        "test_shared_memory::test_regions_are_registered_told_and_forgotten"
    ),
    "POST v2/systemsharedmemory/unregister": "test_shared_memory::test_regions_are_registered_told_and_forgotten",
    "GET v2/cudasharedmemory/status": "test_shared_memory::test_the_memory_of_a_gpu_needs_a_gpu",
    "GET v2/cudasharedmemory/region/R/status": "test_shared_memory::test_the_memory_of_a_gpu_needs_a_gpu",
    "POST v2/cudasharedmemory/region/R/register": "test_shared_memory::test_the_memory_of_a_gpu_needs_a_gpu",
    "POST v2/cudasharedmemory/region/R/unregister": "test_shared_memory::test_the_memory_of_a_gpu_needs_a_gpu",
    "POST v2/cudasharedmemory/unregister": "test_shared_memory::test_the_memory_of_a_gpu_needs_a_gpu",
    "GET v2/trace/setting": "test_protocol::test_traces_are_set_for_the_server_and_for_a_model",
    "POST v2/trace/setting": "test_protocol::test_traces_are_set_for_the_server_and_for_a_model",
    "GET v2/models/M/trace/setting": "test_protocol::test_traces_are_set_for_the_server_and_for_a_model",
    "POST v2/models/M/trace/setting": "test_protocol::test_traces_are_set_for_the_server_and_for_a_model",
    "GET v2/logging": "test_protocol::test_the_log_is_set",
    "POST v2/logging": "test_protocol::test_the_log_is_set",
    "GET metrics": "test_protocol::test_metrics_count_requests",
}
EXTENSIONS = {
    "classification": "test_protocol::test_classes_are_given_instead_of_values",
    "sequence": "test_protocol::test_a_sequence_keeps_its_state",
    "sequence(string_id)": "test_protocol::test_a_sequence_keeps_its_state",
    "model_repository": "test_protocol::test_the_index_can_be_of_the_models_alone_that_are_ready",
    "model_repository(unload_dependents)": "test_protocol::test_an_unload_takes_what_the_model_is_made_of",
    "schedule_policy": "test_protocol::test_the_priority_and_the_time_in_the_queue_are_kept",
    "model_configuration": "test_server::test_config_and_statistics_come_as_triton_gives_them",
    "system_shared_memory": "test_shared_memory::test_tensors_go_through_shared_memory_as_they_would_be_sent",
    "cuda_shared_memory": "test_shared_memory::test_the_memory_of_a_gpu_needs_a_gpu",
    "binary_tensor_data": "test_server::test_every_datatype_comes_back_as_it_went",
    "parameters": "test_protocol::test_parameters_reach_the_model",
    "statistics": "test_server::test_config_and_statistics_come_as_triton_gives_them",
    "trace": "test_protocol::test_traces_are_set_for_the_server_and_for_a_model",
    "logging": "test_protocol::test_the_log_is_set",
}
GRPC = {
    "ModelInfer": "test_streams::test_grpc_gives_what_http_gives",
    "ModelStreamInfer": "test_streams::test_every_answer_of_a_decoupled_model_comes_in_order",
    "grpc.health.v1.Health": "test_streams::test_grpcs_own_health_check_is_answered",
    # tritonnb makes these calls over HTTP; over gRPC the official client makes them, which a handle gives with its key.
    **dict.fromkeys(
        [
            "ServerLive",
            "ServerReady",
            "ModelReady",
            "ServerMetadata",
            "ModelMetadata",
            "ModelConfig",
            "ModelStatistics",
            "RepositoryIndex",
            "RepositoryModelLoad",
            "RepositoryModelUnload",
            "SystemSharedMemoryStatus",
            "SystemSharedMemoryRegister",
            "SystemSharedMemoryUnregister",
            "CudaSharedMemoryStatus",
            "CudaSharedMemoryRegister",
            "CudaSharedMemoryUnregister",
            "TraceSetting",
            "LogSettings",
        ],
        "test_streams::test_the_official_client_makes_every_administrative_call_over_grpc",
    ),
}
OTHERS = {
    "gzip and deflate": "test_protocol::test_bodies_are_compressed_both_ways",
    "JSON instead of bytes": "test_protocol::test_requests_and_answers_can_be_json",
    "chosen outputs, request id": "test_protocol::test_outputs_are_chosen_and_a_request_has_a_name",
    "triton_grpc_error": "test_streams::test_what_came_before_an_error_is_given_first",
    "restricted APIs": "test_streams::test_without_the_key_grpc_is_refused_too",
}

pytestmark = pytest.mark.requires("engine")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A deployment of a model for each extension, two versions of one and an ensemble."""
    repository = write_protocol_models(
        tmp_path_factory.mktemp("models"), "accumulator", "teller", "scores", "queued", "repeater"
    )
    (repository / "scores" / "2").mkdir()
    (repository / "scores" / "2" / "model.py").write_text((repository / "scores" / "1" / "model.py").read_text())
    with (repository / "scores" / "config.pbtxt").open("a") as config:
        config.write("version_policy { all { } }\n")
    (repository / "whole" / "1").mkdir(parents=True)
    (repository / "whole" / "config.pbtxt").write_text(
        'platform: "ensemble" max_batch_size: 1\n'
        'input { name: "x" data_type: TYPE_INT32 dims: [1] } output { name: "y" data_type: TYPE_INT32 dims: [1] }\n'
        'ensemble_scheduling { step { model_name: "queued" model_version: -1\n'
        'input_map { key: "x" value: "x" } output_map { key: "order" value: "y" } } }\n'
    )
    with tn.deploy(repository, name="protocol") as deployment:
        yield deployment


@pytest.fixture(scope="module")
def client(served):
    with Client(served.endpoint) as client:
        yield client


def told(result):
    """Return what the model `teller` saw of its request."""
    return json.loads(result["told"][0])


@pytest.mark.parametrize("named", sorted({*HTTP.values(), *EXTENSIONS.values(), *GRPC.values(), *OTHERS.values()}))
def test_the_table_names_tests_that_there_are(named):
    file, _, test = named.partition("::")
    tree = ast.parse(Path(__file__).with_name(f"{file}.py").read_text())
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_has_every_extension_that_the_server_tells(client):
    assert set(client.server_metadata()["extensions"]) <= set(EXTENSIONS)


def test_the_table_has_every_call_of_the_grpc_service():
    from tritonclient.grpc.service_pb2 import DESCRIPTOR

    calls = {method.name for method in DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    assert calls <= set(GRPC)


def test_outputs_are_chosen_and_a_request_has_a_name(served):
    result = served.infer("teller", {"text": ["a"]}, outputs=["length", "told"], request_id="mine")
    assert set(result) == {"length", "told"}
    assert (result.id, told(result)["id"]) == ("mine", "mine")
    assert list(served.infer("teller", {"text": ["a"]}, outputs=["length"])) == ["length"]


def test_every_call_about_a_model_can_name_one_of_its_versions(served, client):
    x = np.ones((1, 3), np.float32)
    for version in "12":
        assert client.model_ready("scores", version)
        assert client.metadata("scores", version).versions == (version,)
        assert client.config("scores", version)["max_batch_size"] == 4
        assert served.infer("scores", {"x": x}, version=version).version == version
        assert client.statistics("scores", version)[0]["version"] == version
        assert served.generate("scores", {"x": x}, version=version)["model_version"] == version
    assert client.model_ready("scores")
    assert not client.model_ready("scores", "3")


def test_classes_are_given_instead_of_values(served):
    x = np.array([[1, 3, 2], [9, 7, 8]], np.float32)
    result = served.infer("scores", {"x": x}, classes=2, outputs=["scores"])
    assert result["scores"].tolist() == [
        [b"3.000000:1:dog", b"2.000000:2:tripod"],
        [b"9.000000:0:cat", b"8.000000:2:tripod"],
    ]
    assert served.infer("scores", {"x": x[:1]}, classes=1)["plain"].tolist() == [[b"3.000000:1"]]


@pytest.mark.parametrize("classes", [0, 2])
def test_requests_and_answers_can_be_json(served, classes):
    x = np.array([[1, 3, 2]], np.float32)
    by_value = served.infer("scores", {"x": x}, classes=classes)
    as_json = served.infer("scores", {"x": x}, classes=classes, binary=False)
    for name in by_value:
        np.testing.assert_array_equal(as_json[name], by_value[name])
        assert as_json[name].dtype == by_value[name].dtype


def test_parameters_reach_the_model(served):
    parameters = {"text": "ä", "flag": True, "number": -(2**62), "share": 0.25}
    for binary in (True, False):
        assert (
            told(served.infer("teller", {"text": ["a"]}, parameters=parameters, binary=binary))["parameters"]
            == parameters
        )


def test_what_the_server_says_beside_the_outputs_is_kept():
    # The embedded server's Python models cannot say any; this is the protocol's own form.
    said = {"model_name": "m", "model_version": "1", "parameters": {"mood": "calm", "pages": 3}, "outputs": []}
    assert read_result(Answer(200, {}, bytearray(json.dumps(said).encode()))).parameters == {"mood": "calm", "pages": 3}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("which", [7, 2**63 - 1, "the first", "ü" * 20])
def test_a_sequence_keeps_its_state(served, protocol, which):
    def add(number, **options):
        result = served.infer("accumulator", {"x": [[number]]}, sequence_id=which, protocol=protocol, **options)
        return result["sum"].item(), result["ended"].item()

    assert [add(1, sequence_start=True), add(2), add(3, sequence_end=True)] == [(1, False), (3, False), (6, True)]
    with pytest.raises(RequestRefusedError, match="START") as caught:
        add(4)
    assert "sequence_start=True" in caught.value.hint


def test_sequences_do_not_mix(served):
    def add(which, number, **options):
        return served.infer("accumulator", {"x": [[number]]}, sequence_id=which, **options)["sum"].item()

    assert [add(1, 1, sequence_start=True), add("1", 10, sequence_start=True)] == [1, 10]
    assert [add(1, 1, sequence_end=True), add("1", 10, sequence_end=True)] == [2, 20]


def test_a_request_without_its_sequence_is_told_how_to_name_one(served):
    with pytest.raises(RequestRefusedError) as caught:
        served.infer("accumulator", {"x": [[1]]})
    assert "sequence_id=" in caught.value.hint


def until(condition, within_s=10):
    """Wait until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_priority_and_the_time_in_the_queue_are_kept(served, tmp_path):
    order, refused = {}, {}

    def ask(name, **options):
        try:
            order[name] = served.infer("queued", {"x": [[1]]}, **options)["order"].item()
        except RequestRefusedError as error:
            refused[name] = error.message

    def waiting():
        (line,) = re.findall(r'nv_inference_pending_request_count\{model="queued".*\} (\d+)', served.metrics())
        return int(line)

    running = {"tell": str(tmp_path / "runs"), "until": str(tmp_path / "go")}
    requests = {
        "first": {"parameters": running},
        "late": {"priority": 2},
        "early": {"priority": 1},
        "impatient": {"priority": 1, "queue_timeout": 0.001},
    }
    threads = [threading.Thread(target=ask, args=(name,), kwargs=options) for name, options in requests.items()]
    for number, thread in enumerate(threads):
        thread.start()
        until((tmp_path / "runs").exists if number == 0 else lambda number=number: waiting() == number)
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join()
    assert sorted(order, key=order.get) == ["first", "early", "late"]
    assert refused == {"impatient": "model 'queued' answered with an error: Request timeout expired"}


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_are_compressed_both_ways(served, compression, binary):
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    result = served.infer("scores", {"x": x}, compression=compression, binary=binary)
    np.testing.assert_array_equal(result["plain"], x)


@pytest.mark.parametrize("body", [gzip.compress(b"{}")[:-4], b"no gzip"])
def test_a_compressed_answer_that_is_cut_or_garbled_is_never_read(body):
    with pytest.raises(ServerError, match="compressed answer cannot be read"):
        read_result(Answer(200, {"content-encoding": "gzip"}, bytearray(body)))


def test_headers_go_along_but_never_in_place_of_the_key(served):
    assert served.infer("teller", {"text": ["a"]}, headers={"X-Request-Source": "notebook"})["length"] == [1]
    for protocol in ("http", "grpc"):
        with pytest.raises(InferenceError, match="'authorization' is the server's own"):
            served.infer("teller", {"text": ["a"]}, headers={"authorization": "Bearer other"}, protocol=protocol)


def test_a_model_can_be_asked_in_plain_json(served):
    said = served.generate(
        "teller", {"text": np.array(["a", "b"], object)}, parameters={"heat": 0.5}, request_id="mine"
    )
    assert (said["length"], said["id"], said["model_name"]) == (2, "mine", "teller")
    assert json.loads(said["told"])["parameters"]["heat"] == 0.5
    with pytest.raises(InferenceError, match="no input 'txt'") as caught:
        served.generate("teller", {"txt": "a"})
    assert "did you mean 'text'?" in caught.value.hint
    assert served.generate("scores", {"x": np.array([[1, 3, 2]], np.float32)})["plain"] == [1, 3, 2]
    with pytest.raises(InferenceError, match="more than one dimension"):
        served.generate("scores", {"x": [[1, 3, 2], [1, 3, 2]]})
    with pytest.raises(InferenceError, match="cannot be written as JSON"):
        served.generate("teller", {"text": object()})
    with pytest.raises(RequestRefusedError, match="expects model to produce exactly 1 response") as caught:
        served.generate("repeater", {"times": 2})
    assert "generate_stream" in caught.value.hint


def test_a_decoupled_model_is_told_to_be_streamed(served):
    for protocol in ("http", "grpc"):
        with pytest.raises(RequestRefusedError, match="decoupled") as caught:
            served.infer("repeater", {"times": [2]}, protocol=protocol)
        assert "stream(" in caught.value.hint


def test_the_index_can_be_of_the_models_alone_that_are_ready(client):
    client.unload("teller")
    until(lambda: not any(model.state == "UNLOADING" for model in client.repository_index()))
    try:
        everything = {model.name: model.state for model in client.repository_index()}
        ready = {model.name for model in client.repository_index(ready=True)}
        named = {model["name"] for model in client._ask("POST", "v2/repository/any/index", {})}
    finally:
        client.load("teller")
    assert everything["teller"] == "UNAVAILABLE"
    assert ready == everything.keys() - {"teller"}
    assert named == everything.keys()


def test_a_load_can_bring_a_configuration_and_files(client, served):
    config = {"backend": "python", "max_batch_size": 2}
    config["input"] = [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
    config["output"] = [{"name": "plain", "data_type": "TYPE_FP32", "dims": [3]}]
    client.load("accumulator", config=json.dumps({**client.config("accumulator"), "max_batch_size": 2}))
    assert client.config("accumulator")["max_batch_size"] == 2
    client.load("accumulator")
    code = (served._run.folder / "models" / "scores" / "1" / "model.py").read_bytes()
    with tn.connect(served.url, name="brings", headers=served.headers) as connection:
        connection.load("brought", config=config, files={"1/model.py": code})
        try:
            assert connection.infer("brought", {"x": [[1, 2, 3]]})["plain"].tolist() == [[1, 2, 3]]
        finally:
            connection.unload("brought")
    with pytest.raises(SpecError, match="need a config"):
        client.load("brought", files={"1/model.py": code})


def test_an_unload_takes_what_the_model_is_made_of(served):
    served.unload("whole", dependents=True)
    try:
        ready = {model.name for model in served.models() if model.state == "READY"}
        assert not ready & {"whole", "queued"}
    finally:
        served.load("queued")
        served.load("whole")


def test_traces_are_set_for_the_server_and_for_a_model(served):
    assert served.trace_settings()["trace_level"] == ["OFF"]
    assert served.update_trace_settings(trace_rate=500)["trace_rate"] == "500"
    assert served.update_trace_settings("teller", trace_rate="7")["trace_rate"] == "7"
    assert served.trace_settings("teller")["trace_rate"] == "7"
    assert served.update_trace_settings("teller", trace_rate=None)["trace_rate"] == "500"
    assert served.update_trace_settings(trace_rate=None)["trace_rate"] == "1000"
    with pytest.raises(SpecError, match="no trace setting 'trace_rte'") as caught:
        served.update_trace_settings(trace_rte=4)
    assert "trace_rate" in caught.value.hint
    with pytest.raises(ServerError) as caught:
        served.update_trace_settings(trace_level="TIMESTAMPS")
    assert "trace-config" in caught.value.hint


def test_the_log_is_set(served):
    assert served.log_settings()["log_verbose_level"] == 0
    assert served.update_log_settings(log_verbose_level=1)["log_verbose_level"] == 1
    served.infer("teller", {"text": ["a"]})
    assert "HTTP request: 2 /v2/models/teller/infer" in served.get_logs()
    assert served.update_log_settings(log_verbose_level=0)["log_verbose_level"] == 0
    with pytest.raises(SpecError, match="no log setting 'verbose'"):
        served.update_log_settings(verbose=1)


def test_metrics_count_requests(served):
    def requests():
        (count,) = re.findall(r'nv_inference_request_success\{model="teller".*\} (\d+)', served.metrics())
        return int(count)

    served.infer("teller", {"text": ["a"]})
    before = requests()
    served.infer("teller", {"text": ["a"]})
    assert requests() == before + 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"protocol": "grcp"}, "protocol='grcp' is not known"),
        ({"compression": "zip"}, "compression='zip' is not known"),
        ({"protocol": "grpc", "binary": False}, "gRPC has no JSON"),
        ({"classes": -1}, "classes=-1"),
        ({"priority": 1.5}, "priority=1.5"),
        ({"timeout": 0}, "timeout=0"),
        ({"queue_timeout": float("nan")}, "queue_timeout=nan"),
        ({"sequence_start": True}, "need a sequence_id"),
        ({"sequence_id": -3}, "sequence_id=-3"),
        ({"sequence_id": True}, "sequence_id=True"),
        ({"parameters": [3]}, "parameters=[3] is not a dict"),
        ({"headers": "A: b"}, "is not a dict"),
        ({"parameters": {"priority": 3}}, "'priority' is Triton's own"),
        ({"parameters": {"triton_x": 3}}, "'triton_x' is Triton's own"),
        ({"parameters": {"a": [1]}}, "the parameter 'a' cannot be"),
        ({"parameters": {"a": 2**63}}, "the parameter 'a' cannot be"),
        ({"parameters": {"a": float("inf")}}, "the parameter 'a' cannot be"),
        ({"parameters": {1: 1}}, "the parameter 1 cannot be"),
        ({"headers": {"A": "b\r\nC: d"}}, "printable ASCII"),
        ({"headers": {"A:": "b"}}, "not a header's name"),
        ({"headers": {"Content-Length": "3"}}, "belongs to the request itself"),
        ({"sequense_id": 3}, "no option 'sequense_id'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_sent(options, said):
    with pytest.raises(InferenceError) as caught:
        InferOptions.of(options)
    assert said in str(caught.value)
