"""The same spec gives the same metadata, configuration, outputs, errors and life on every engine."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from protocol_models import write_protocol_models
from python_models import python_model

import tritonnb as tn
from tritonnb.errors import DeploymentError, InferenceError, PortInUseError, TritonNbError

X = np.arange(8, dtype=np.float32).reshape(2, 4)
ENGINES = [
    pytest.param("embedded", marks=pytest.mark.requires("engine")),
    pytest.param("docker", marks=pytest.mark.requires("engine", "docker")),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory, square):
    """A repository with good models, with and without configuration, and bad ones."""
    folder = tmp_path_factory.mktemp("models")
    contents = {
        "square/1/model.onnx": square,
        "batched/1/model.onnx": square,
        "batched/config.pbtxt": b"max_batch_size: 8 dynamic_batching { } instance_group [{ count: 1 kind: KIND_CPU }]",
        "two/2/model.onnx": square,
        "two/10/model.onnx": square,
        "echo/1/model.py": python_model().encode(),
        "stumbles/1/model.py": python_model(execute='raise ValueError("no such picture")').encode(),
        "cut/1/model.onnx": square[:30],
        "raises/1/model.py": python_model(initialize='raise ValueError("no weights here")').encode(),
        "imports/1/model.py": python_model("import torch_of_another_machine").encode(),
        "gpu/1/model.onnx": square,
        "gpu/config.pbtxt": b"instance_group [{ kind: KIND_GPU }]\n",
        "typo/1/model.onnx": square,
        "typo/config.pbtxt": b'name: "typo"\nmax_batchsize: 4\n',
    }
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def deployment(request, models):
    with tn.deploy(models, name="both", **chosen(request)) as deployment:
        yield deployment


@pytest.fixture(params=ENGINES)
def engine(request):
    """The options that choose an engine."""
    return chosen(request)


def chosen(request):
    server = {"image": request.getfixturevalue("triton_image")} if request.param == "docker" else {}
    return {"engine": request.param, "server": server}


def test_bad_models_take_no_other_down_and_the_deployment_is_degraded(deployment):
    assert deployment.state == "degraded"
    ready = {m.name for m in deployment.models() if m.state == "READY"}
    assert ready == {"square", "batched", "two", "echo", "stumbles"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("cut", "ONNX"),
        ("raises", "no weights here"),
        ("imports", "No module named 'torch_of_another_machine'"),
        ("gpu", "KIND_GPU"),
        ("typo", "max_batch_size"),
    ],
)
def test_each_bad_model_tells_its_own_reason(deployment, model, said):
    (state,) = (m for m in deployment.models() if m.name == model)
    assert said in state.reason
    with pytest.raises(DeploymentError, match=f"'{model}' is not ready"):
        deployment.infer(model, {"x": X})


def test_metadata_tells_names_types_and_shapes(deployment):
    told = deployment.metadata("square")
    assert [(t.name, t.datatype, t.shape) for t in (*told.inputs, *told.outputs)] == [
        ("x", "FP32", (-1, 4)),
        ("y", "FP32", (-1, 4)),
    ]
    assert told.platform == "onnxruntime_onnx"


def test_the_configuration_is_completed_or_kept(deployment):
    completed, kept = deployment.config("square"), deployment.config("batched")
    assert (completed["backend"], completed["max_batch_size"]) == ("onnxruntime", 4)
    assert (kept["max_batch_size"], kept["instance_group"][0]["count"]) == (8, 1)


def test_outputs_are_exact(deployment):
    np.testing.assert_array_equal(deployment.infer("square", {"x": X})["y"], X * X)
    np.testing.assert_array_equal(deployment.infer("echo", {"x": X[0]})["y"], X[0])


def test_a_hundred_megabytes_pass(deployment):
    large = np.arange(25_000_000, dtype=np.float32)
    np.testing.assert_array_equal(deployment.infer("echo", {"x": large})["y"], large)


def test_versions_are_numbers(deployment):
    assert [m.version for m in deployment.models() if m.name == "two" and m.state == "READY"] == ["10"]


def test_a_request_that_does_not_fit_is_told_before_it_is_sent(deployment):
    with pytest.raises(InferenceError, match="did you mean 'x'"):
        deployment.infer("square", {"xx": X})
    with pytest.raises(TritonNbError, match="did you mean 'square'"):
        deployment.metadata("sqare")


def test_a_model_that_fails_at_a_request_tells_its_own_reason(deployment):
    with pytest.raises(TritonNbError, match="no such picture"):
        deployment.infer("stumbles", {"x": X[0]})


def test_statistics_metrics_and_logs_are_there(deployment):
    deployment.infer("batched", {"x": X})
    (told,) = deployment.statistics("batched")
    assert told["name"] == "batched"
    assert "nv_inference_request_success" in deployment.metrics()
    assert "successfully loaded 'square'" in deployment.get_logs()
    assert deployment.get_keys()[0] not in deployment.get_logs()


def test_a_model_is_unloaded_and_loaded(deployment):
    deployment.unload("two")
    with pytest.raises(TritonNbError):
        deployment.infer("two", {"x": X})
    deployment.load("two")
    np.testing.assert_array_equal(deployment.infer("two", {"x": X})["y"], X * X)


@pytest.fixture
def reloaded(tmp_path, engine):
    """A deployment of a model in so many instances, and a way to write it anew."""

    def write(count, top=""):
        # Its end takes a moment, as that of a process with much memory does.
        text = python_model(top) + "    def finalize(self):\n        time.sleep(0.5)\n"
        (tmp_path / "echo" / "1" / "model.py").write_text(text)
        (tmp_path / "echo" / "config.pbtxt").write_text(f"instance_group [{{ kind: KIND_CPU count: {count} }}]\n")

    (tmp_path / "echo" / "1").mkdir(parents=True)
    write(2)
    with tn.deploy(tmp_path, name="reloaded", **engine) as deployment:
        yield deployment, write


def processes(deployment):
    """Return the watched processes of the model, as this machine knows them."""
    return [psutil.Process(getattr(stub, "pid", stub)) for stub in deployment._run.engine._stubs["echo"]]


def test_an_instance_that_a_reload_takes_away_is_not_called_lost(reloaded):
    deployment, write = reloaded
    before = processes(deployment)
    write(1, "# changed")  # so all instances get new processes, and the old ones end later
    deployment.load("echo")
    psutil.wait_procs(before, timeout=20)
    assert not any(process.is_running() for process in before)
    deployment._run.engine._running_stubs("echo", fresh=True)  # not what was seen a second ago
    assert deployment.state == "ready"
    assert len(processes(deployment)) == 1


def test_an_instance_that_a_change_of_their_number_spares_is_still_watched(reloaded):
    deployment, write = reloaded
    (oldest, _) = processes(deployment)
    write(3)
    deployment.load("echo")
    assert len(processes(deployment)) == 3
    victim = oldest if oldest in processes(deployment) else processes(deployment)[0]
    victim.kill()
    deadline = time.monotonic() + 10
    while deployment.state != "degraded" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "1 of its 3 processes died" in deployment.models()[0].reason


def test_a_client_of_this_machine_hands_tensors_over_in_shared_memory(repository, engine):
    engine["server"]["shared_memory"] = True
    region = Path("/dev/shm/tritonnb-client-both")
    region.write_bytes(X.tobytes())
    try:
        with tn.deploy(repository, name="shared", **engine) as deployment:
            post(
                deployment,
                "systemsharedmemory/region/x/register",
                {"key": f"/{region.name}", "offset": 0, "byte_size": X.nbytes},
            )
            where = {"shared_memory_region": "x", "shared_memory_byte_size": X.nbytes}
            x = {"name": "x", "datatype": "FP32", "shape": X.shape, "parameters": where}
            (y,) = post(deployment, "models/square/infer", {"inputs": [x]})["outputs"]
            assert y["data"] == (X * X).ravel().tolist()
            post(deployment, "systemsharedmemory/region/x/unregister", {})
        assert region.read_bytes() == X.tobytes()
        assert not list(region.parent.glob("tritonnb_shared-*"))
    finally:
        region.unlink()


def post(deployment, path, content):
    """Send what tritonnb's own client has no word for."""
    request = urllib.request.Request(
        f"{deployment.url}/v2/{path}", json.dumps(content).encode(), headers=dict(deployment.headers)
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "{}")


def test_administration_needs_the_key(deployment):
    request = urllib.request.Request(f"{deployment.url}/v2/repository/index", b"{}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value:
        assert refused.value.code == 403
    request.add_header("Authorization", f"Bearer {deployment.get_keys()[0]}")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def test_with_auth_every_request_needs_the_key(repository, engine):
    with tn.deploy(repository, name="guarded", auth=True, **engine) as deployment:
        with pytest.raises(TritonNbError):
            tn.connect(deployment.url)
        np.testing.assert_array_equal(deployment.infer("square", {"x": X})["y"], X * X)


def test_after_its_end_every_call_says_so_and_its_ports_are_free(repository, engine):
    with tn.deploy(repository, name="ended", **engine) as deployment:
        port = int(deployment.url.rpartition(":")[2])
    assert deployment.state == "stopped"
    with pytest.raises(DeploymentError, match="was deleted"):
        deployment.infer("square", {"x": X})
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))


def test_a_deployment_whose_models_all_fail_raises_their_reasons(tmp_path, square, engine):
    (tmp_path / "bad.onnx").write_bytes(square[:40])
    with pytest.raises(DeploymentError, match=r"No model of deployment 'hopeless' could be loaded.\n  bad: ") as caught:
        tn.deploy(tmp_path / "bad.onnx", name="hopeless", **engine)
    assert "ONNX" in str(caught.value)


def test_a_misspelt_flag_is_told_with_the_right_one(repository, engine):
    engine["server"]["flags"] = {"log-verbus": 1}
    with pytest.raises(TritonNbError, match=r"no flag 'log-verbus'.\n.*did you mean 'log-verbose'"):
        tn.deploy(repository, name="flags", **engine)


def test_a_server_that_ends_at_once_is_told_with_its_own_words(repository, engine):
    engine["server"]["flags"] = {"rate-limit": "sometimes"}
    with pytest.raises(TritonNbError, match="ended with exit code 1") as caught:
        tn.deploy(repository, name="flags", **engine)
    assert "rate-limit" in str(caught.value)


def test_a_flag_and_a_variable_reach_the_server(repository, add_model, engine):
    add_model("tells", "model.py", python_model(initialize='print("LEVEL is", os.environ["LEVEL"], flush=True)'))
    engine["server"] |= {"flags": {"log-verbose": 1}, "env": {"LEVEL": "high"}}
    with tn.deploy(repository, name="told", **engine) as deployment:
        assert "LEVEL is high" in deployment.get_logs()
        assert "HTTP request: " in deployment.get_logs()


def test_a_taken_port_is_told(repository, engine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        engine["server"]["http_port"] = port
        with pytest.raises(PortInUseError, match=f"Port {port} "):
            tn.deploy(repository, name="busy", **engine)


def test_the_same_spec_is_reused_and_another_replaces_it_in_place(repository, add_model, square, engine):
    with tn.deploy(repository, name="again", **engine) as first:
        add_model("second", "model.onnx", square)
        assert tn.deploy(repository, name="again", **engine) is first
        assert {m.name for m in first.models()} == {"square", "second"}
        first.update(auth=True)
        assert first.spec.auth
        np.testing.assert_array_equal(first.infer("second", {"x": X})["y"], X * X)


@pytest.fixture(scope="module", params=ENGINES)
def protocol(request, tmp_path_factory):
    """A deployment of the models that need more of the protocol than plain inference."""
    options = chosen(request)
    options["server"]["shared_memory"] = True
    repository = write_protocol_models(tmp_path_factory.mktemp("protocol"), "accumulator", "repeater", "scores")
    with tn.deploy(repository, name="protocol", **options) as deployment:
        yield deployment


SCORES = np.array([[1, 3, 2], [9, 7, 8]], np.float32)


@pytest.mark.parametrize("options", [{}, {"binary": False}, {"protocol": "grpc"}, {"compression": "gzip"}], ids=str)
def test_values_and_classes_come_every_way(protocol, options):
    np.testing.assert_array_equal(protocol.infer("scores", {"x": SCORES}, **options)["plain"], SCORES)
    classes = protocol.infer("scores", {"x": SCORES}, classes=1, outputs=["scores"], **options)
    assert classes["scores"].tolist() == [[b"3.000000:1:dog"], [b"9.000000:0:cat"]]


def test_tensors_are_handed_over_in_shared_memory(protocol):
    with protocol.shared_memory() as memory:
        for scores in (SCORES, SCORES + 1):
            answer = protocol.infer("scores", {"x": scores}, shared_memory=memory)
            np.testing.assert_array_equal(answer["plain"], scores)
        assert len(protocol._running_client().system_shared_memory()) == 1
    assert protocol._running_client().system_shared_memory() == []
    assert not list(Path("/dev/shm").glob(f"{protocol._region_prefix()}client_*"))


@pytest.mark.parametrize("which", [5, "the first"])
@pytest.mark.parametrize("by", ["http", "grpc"])
def test_a_sequence_keeps_its_state(protocol, which, by):
    sums = [
        protocol.infer("accumulator", {"x": [[n]]}, sequence_id=which, protocol=by, **options)["sum"].item()
        for n, options in ((1, {"sequence_start": True}), (2, {}), (3, {"sequence_end": True}))
    ]
    assert sums == [1, 3, 6]


@pytest.mark.parametrize("way", ["stream", "generate_stream"])
def test_a_decoupled_model_gives_its_answers_one_after_another(protocol, way):
    stream = getattr(protocol, way)
    assert [np.asarray(answer["i"]).item() for answer in stream("repeater", {"times": [4]})] == [0, 1, 2, 3]
    seen = []
    with pytest.raises(TritonNbError, match="the ribbon is torn"):
        seen.extend(stream("repeater", {"times": [4]}, parameters={"fail_at": 2}))
    assert len(seen) == 2


@pytest.mark.requires("engine", "docker")
def test_a_container_with_shared_memory_of_its_own_says_how_to_share_it(repository, triton_image):
    with (
        tn.deploy(repository, name="apart", engine="docker", server={"image": triton_image}) as deployment,
        deployment.shared_memory() as memory,
        pytest.raises(TritonNbError, match="Unable to open shared memory region") as caught,
    ):
        deployment.infer("square", {"x": X}, shared_memory=memory)
    assert "shared_memory: true" in caught.value.hint


SCORE = """\
import json, os
import numpy
import tritonclient.http as http

KEY = {"Authorization": os.environ["TRITON_AUTHORIZATION"]}

def init():
    global client
    client = http.InferenceServerClient(os.environ["TRITON_URL"])
    assert client.is_server_ready(headers=KEY)

def run(data):
    x = numpy.array(json.loads(data), numpy.float32)
    tensor = http.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    return client.infer("square", [tensor], headers=KEY).as_numpy("y").tolist()
"""


def test_an_entry_script_stands_in_front_of_the_server_and_survives_its_change(repository, tmp_path, engine):
    (tmp_path / "score.py").write_text(SCORE)
    score = {"entry_script": "score.py", "source_directory": tmp_path, "port": 0, "workers": 2}
    with tn.deploy(repository, name="scored-both", auth=True, score=score, **engine) as deployment:
        uri, url, keys = deployment.scoring_uri, deployment.url, deployment.get_keys()
        np.testing.assert_array_equal(deployment.run(X), X * X)

        deployment.restart()

        assert (deployment.scoring_uri, deployment.get_keys()) == (uri, keys)
        assert deployment.url != url
        np.testing.assert_array_equal(deployment.run(X), X * X)
        deployment.write_score("def init(): pass\ndef run(data): return 'from a cell'\n", port=0)
        deployment.update(restart="on-failure")
        assert (deployment.run(""), deployment.scoring_uri) == ("from a cell", uri)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(uri)
