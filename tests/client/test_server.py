"""The client against a real tritonserver, with models made for these tests."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tritonnb.client import Client, ModelState, TensorMetadata
from tritonnb.client.options import InferOptions
from tritonnb.client.tensors import DTYPES
from tritonnb.endpoint import Endpoint
from tritonnb.errors import InferenceError, RequestRefusedError, ServerError, ServerUnreachableError

pytestmark = pytest.mark.requires("engine")

ONES = np.ones((1, 2), "float32")
BROKEN = "ValueError: the weights are missing"


def tensor_name(datatype):
    return "STRING" if datatype == "BYTES" else datatype


def sample(datatype):
    if datatype == "BYTES":
        return np.array([[b"plain", "grün".encode()], [b"", b"nul\0\xff\0"]], dtype=object)
    return np.array([[0, 1], [1, 100]]).astype(DTYPES[datatype])


@pytest.fixture
def nobody():
    """Return an endpoint where nothing listens."""
    return Endpoint("http://127.0.0.1:9")  # the discard service, which nobody runs any more


def test_health_is_true_of_a_server_that_answers_and_false_where_none_does(client, nobody):
    assert client.live()
    assert client.ready()
    assert client.model_ready("echo")
    assert client.model_ready("echo", "1")
    assert not client.model_ready("echo", "9")
    assert not client.model_ready("broken")
    assert not client.model_ready("absent")
    with Client(nobody) as alone:
        assert not alone.live()
        assert not alone.ready()
        assert not alone.model_ready("echo")


def test_a_server_is_live_where_one_connection_hangs_behind_a_load_and_the_next_is_answered(scripted):
    def hangs(connection):
        while connection.recv(4096):
            pass

    def answers(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Client(Endpoint(scripted(hangs, answers).url), timeout=2) as client:
        assert client.live()
    began = time.monotonic()
    with Client(Endpoint(scripted(hangs).url), timeout=0.4) as client:
        assert not client.live()
    assert time.monotonic() - began < 2


def test_the_server_tells_its_name_and_extensions(client):
    said = client.server_metadata()

    assert said["name"] == "triton"
    assert "binary_tensor_data" in said["extensions"]


def test_metadata_joins_what_metadata_and_config_say(client):
    metadata = client.metadata("echo")

    assert (metadata.name, metadata.versions, metadata.max_batch_size) == ("echo", ("1",), 4)
    assert metadata.inputs[0] == TensorMetadata("in_BOOL", "BOOL", (-1, -1), optional=True)
    assert metadata.outputs[-1] == TensorMetadata("out_STRING", "BYTES", (-1, -1))
    assert client.metadata("changing").max_batch_size == 0
    assert not client.metadata("changing").inputs[0].optional


def test_config_and_statistics_come_as_triton_gives_them(client):
    client.infer("echo", {"in_INT8": [[1], [2], [3]]}, InferOptions(outputs=["out_INT8"]))

    assert client.config("echo")["backend"] == "python"
    deadline = time.monotonic() + 10
    # The server counts a request after it has answered it.
    while not (counted := client.statistics("echo", "1")[0]["inference_count"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counted >= 3
    assert {"echo", "failing"} <= {model["name"] for model in client.statistics()}


def test_the_repository_index_gives_every_model_with_its_state(client):
    states = {state.name: state for state in client.repository_index()}

    assert states["echo"] == ModelState("echo", "1", "READY")
    assert states["broken"].state == "UNAVAILABLE"
    assert states["broken"].reason.startswith(BROKEN)


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_every_datatype_comes_back_as_it_went(client, datatype):
    array, name = sample(datatype), tensor_name(datatype)

    answer = client.infer("echo", {f"in_{name}": array}, InferOptions(outputs=[f"out_{name}"], request_id="r 1"))

    assert (answer.model, answer.version, answer.id) == ("echo", "1", "r 1")
    assert answer[f"out_{name}"].dtype == array.dtype
    np.testing.assert_array_equal(answer[f"out_{name}"], array)


def test_all_inputs_and_outputs_go_together(client):
    arrays = {tensor_name(datatype): sample(datatype) for datatype in DTYPES}

    answer = client.infer("echo", {f"in_{name}": array for name, array in arrays.items()}, InferOptions(version="1"))

    assert set(answer) == {f"out_{name}" for name in arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(answer[f"out_{name}"], array)


def test_lists_and_arrays_in_any_layout_will_do(client):
    answer = client.infer(
        "echo",
        {
            "in_FP32": [[0.5, 1], [2, 3]],
            "in_INT16": np.array([[1, 2], [3, 4]], dtype=">i8").T,
            "in_STRING": [["a"], ["b"]],
        },
        InferOptions(outputs=["out_FP32", "out_INT16", "out_STRING"]),
    )

    assert answer["out_FP32"].tolist() == [[0.5, 1], [2, 3]]
    assert answer["out_INT16"].tolist() == [[1, 3], [2, 4]]
    assert answer["out_STRING"].tolist() == [[b"a"], [b"b"]]


def test_what_does_not_fit_is_refused_before_it_is_sent(client):
    with pytest.raises(InferenceError, match="the batch dimension is missing") as caught:
        client.infer("untouched", {"in_FP32": np.ones(2, "float32")})
    assert not isinstance(caught.value, RequestRefusedError)
    with pytest.raises(InferenceError, match="no output 'out_FP'") as caught:
        client.infer("untouched", {"in_FP32": ONES}, InferOptions(outputs=["out_FP"]))
    assert "out_FP" in caught.value.hint
    assert client.statistics("untouched")[0]["inference_stats"]["fail"]["count"] == 0


def test_the_models_own_error_comes_with_the_servers_status(client):
    with pytest.raises(
        RequestRefusedError, match=r"model 'failing' answered with an error: .*the ink has run out"
    ) as caught:
        client.infer("failing", {"x": ONES})
    assert isinstance(caught.value, ServerError)
    assert caught.value.status == 500


def test_an_unknown_model_is_answered_with_the_nearest(client):
    for call in (client.metadata, client.config, lambda model: client.infer(model, {})):
        with pytest.raises(ServerError, match="unknown model: 'ecko'") as caught:
            call("ecko")
        assert caught.value.status == 404
        assert caught.value.hint == "did you mean 'echo'?"


def test_a_model_that_is_there_but_failed_is_answered_with_its_reason(client):
    with pytest.raises(ServerError) as caught:
        client.infer("broken", {"x": ONES})
    assert caught.value.hint.startswith(f"it is in the repository, but UNAVAILABLE: {BROKEN}")


def test_a_load_that_fails_gives_the_models_own_reason_first(client):
    with pytest.raises(ServerError, match=f"^model 'broken' could not be loaded: {BROKEN}") as caught:
        client.load("broken")
    assert caught.value.status == 400
    with pytest.raises(ServerError, match="model 'absent' could not be loaded") as caught:
        client.load("absent")
    assert "log" in caught.value.hint


def test_a_model_can_be_unloaded_and_loaded_again(client):
    client.unload("echo")
    with pytest.raises(ServerError, match="'echo'"):
        client.infer("echo", {"in_INT8": [[1]]})

    client.load("echo")

    assert client.model_ready("echo")
    assert client.infer("echo", {"in_INT8": [[1]]}, InferOptions(outputs=["out_INT8"]))["out_INT8"].tolist() == [[1]]


def test_a_model_that_was_loaded_anew_with_other_inputs_is_looked_at_again(client, deployment, sources):
    assert client.infer("changing", {"x": ONES})["y"].dtype == np.float32
    config = sources / "changing" / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP32", "TYPE_INT64"))
    deployment.load("changing")  # behind this client's back: it is a client of its own

    assert client.infer("changing", {"x": ONES.astype("int64")})["y"].dtype == np.int64
    with pytest.raises(InferenceError, match="INT64"):
        client.infer("changing", {"x": ONES})


def test_a_timeout_ends_the_wait_and_the_next_request_is_answered(client):
    with pytest.raises(ServerUnreachableError, match=r"within 0\.2 s"):
        client.infer("slow", {"x": ONES}, InferOptions(timeout=0.2))

    assert client.infer("echo", {"in_INT8": [[7]]}, InferOptions(outputs=["out_INT8"]))["out_INT8"].tolist() == [[7]]


def test_without_the_key_the_administrative_calls_are_refused_and_say_so(endpoint):
    with Client(Endpoint(endpoint.url)) as stranger:
        with pytest.raises(ServerError) as caught:
            stranger.repository_index()
        assert caught.value.status == 403
        assert "key" in caught.value.hint
        # What needs the index for its hint does without.
        with pytest.raises(ServerError, match="unknown model: 'ecko'"):
            stranger.metadata("ecko")


def test_threads_share_a_client_and_get_their_own_answers(client):
    wrong = []

    def ask(thread):
        for n in range(20):
            answer = client.infer("echo", {"in_INT64": [[thread, n]]}, InferOptions(outputs=["out_INT64"]))
            if answer["out_INT64"].tolist() != [[thread, n]]:
                wrong.append((thread, n, answer))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_a_closed_client_says_that_it_is_closed(endpoint):
    with Client(endpoint) as client:
        assert client.live()

    with pytest.raises(ServerUnreachableError, match="is closed"):
        client.metadata("echo")
