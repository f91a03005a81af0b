"""The troubles that people most often have with Triton, made for real, and the words that they are told in.

Each row is a group of GitHub threads about tritonserver. ``models: a, b`` are models of this module that cannot be
loaded, each with the reason and the hint that it must give; the rest are names of tests here, or of where else.

==== ================================================ ================================================================
row  trouble                                          tested by
==== ================================================ ================================================================
1    "failed to load all models" hides the bad one    exactly_the_bad_models, cannot_be_loaded, no_model_can_be_loaded
2    shapes, the batch dimension                      wrong_shape, forgotten_batch_dimension; models: dims_with_batch
3    text-proto errors in config.pbtxt                models: dollar, braces, not_integer, fp32, quoted
4    /config cannot be used again as config.pbtxt     completed_configuration; models: json
5    /dev/shm is full                                 full_dev_shm
6    the Python stub                                  fails_at_a_request, dies_at_a_request, prints, still_loads;
                                                      models: missing_module, syntax, raises, crashes, killed, no_class,
                                                      shadowed
7    ports, a server that is not there                port_that_is_taken, nothing_listening, killed_says_so
8    no GPU                                           models: gpu, gpu_number, cuda_library
9    the image's size                                 not here: the embedded server needs no image
10   a TensorRT plan of another version; no backend   models: plan, torch, saved, backend, platform
11   tritonclient's gevent and threads                not here: tests/client (threads), tests/kernel
12   event loops in Jupyter                           not here: tests/kernel
13   pins of protobuf and grpcio                      not here: tests/test_wheel.py installs into an empty environment
14   perf_analyzer cannot be installed                not here: the load generator's own tests
15   the Python client is slow                        no message: tests/benchmarks
16   shared memory across containers                  not here: needs containers
17   mounts of containers beside containers           not here: needs containers
18   unload keeps memory, load keeps an old version   unloaded_model, new_version; models: second_bad, no_such_version
19   what ready means                                 still_loads, dies_at_a_request
-    Jupyter's .ipynb_checkpoints, a trailing slash   the repository that this module deploys has them
-    ensembles                                        models: of_nothing, of_a_bad_one
==== ================================================ ================================================================
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request

import numpy as np
import psutil
import pytest

import tritonnb as tn
from tritonnb.client import Client
from tritonnb.endpoint import Endpoint
from tritonnb.errors import DeploymentError, InferenceError, PortInUseError, ServerUnreachableError, TritonNbError

pytestmark = pytest.mark.requires("engine")

ONNX = {"1/model.onnx": None}
PYTHON = {"1/model.py": {}}
X_AND_Y = 'input { name: "x" data_type: TYPE_FP32 dims: [%s] } output { name: "y" data_type: TYPE_FP32 dims: [4] }'
ENSEMBLE = (
    'platform: "ensemble" max_batch_size: 4 ' + X_AND_Y % "4" + ' ensemble_scheduling { step { model_name: "%s"'
    ' model_version: -1 input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }'
)
TUNED = """
max_batch_size: 8
instance_group { count: 1 kind: KIND_CPU }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
dynamic_batching { preferred_batch_size: [2, 4] max_queue_delay_microseconds: 100 }
"""

# By name: the files, the config.pbtxt or None, the reason (a pattern), and a part of the hint.
BAD = {
    "dims_with_batch": (
        ONNX,
        "max_batch_size: 4 " + X_AND_Y % "-1, 4",
        r"the model expects 2 dimensions \(shape \[-1, 4\]\).*specifies 3 .*max_batch_size > 0 puts the batch dim",
        "",
    ),
    "cut_off": ({"1/model.onnx": b"\x08\x08"}, None, "not an ONNX model or is cut off", ""),
    "other_name": ({"1/net.onnx": None}, 'backend: "onnxruntime"', r"model\.onnx is not there.*rename net\.onnx", ""),
    "second_bad": (ONNX | {"2/model.onnx": b"junk"}, None, "^version 2: .*not an ONNX model", ""),
    "no_such_version": (
        ONNX,
        "version_policy { specific { versions: [7] } }",
        "at least one version must be available(.|\n)*version 7 is specified",
        "add the version folder",
    ),
    "dollar": (ONNX, "max_batch_size: ${size}", r"config\.pbtxt, line 1, column 17: ", "${size} is a template's"),
    "json": (ONNX, '{"max_batch_size": 4}', "line 1, column 1: Expected identifier", "this is JSON"),
    "braces": (ONNX, "input: {{ }}", r"line 1, column 9: Expected identifier or number, got \{", "`group { ... }`"),
    "not_integer": (ONNX, "input { dims: [1, 2, ] }", "column 22: Couldn't parse integer", "no comma after"),
    "fp32": (ONNX, "\ninput { data_type: FP32 }", "line 2, column 20: 'FP32' is no DataType", "mean 'TYPE_FP32'?"),
    "quoted": (ONNX, 'input { data_type: "TYPE_FP32" }', "column 20: TYPE_FP32 in quotes is text", "without quotes"),
    "missing_module": (
        {"1/model.py": {"top": "from preprocessing import resize"}},
        None,
        r"^ModuleNotFoundError: No module named 'preprocessing' \(at missing_module/1/model\.py\(1\): <module>\)",
        "put a module of yours beside model.py",
    ),
    "syntax": ({"1/model.py": "def initialize(:\n"}, None, r"^SyntaxError: invalid syntax \(model\.py, line 1\)", ""),
    "raises": (
        {"1/model.py": {"initialize": "open('/no/weights.bin')"}},
        None,
        r"^FileNotFoundError: .*'/no/weights\.bin' \(at raises/1/model\.py\(11\): initialize\)",
        "",
    ),
    "crashes": (
        {"1/model.py": {"initialize": "import ctypes; ctypes.string_at(0)"}},
        None,
        r"^its process crashed: Segmentation fault \(at crashes/1/model\.py\(11\): initialize\)",
        "a library that it calls crashed",
    ),
    "killed": (
        {"1/model.py": {"initialize": "os.kill(os.getpid(), 9)"}},
        None,
        "Stub process 'killed_0' is not healthy",
        "killed for want of memory",
    ),
    "no_class": ({"1/model.py": "x = 1\n"}, None, "no attribute 'TritonPythonModel'", "`class TritonPythonModel`"),
    "shadowed": (
        PYTHON | {"1/model/__init__.py": ""},
        None,
        "no attribute 'TritonPythonModel'",
        "a folder `model` beside model.py hides it",
    ),
    "gpu": (ONNX, "instance_group { kind: KIND_GPU }", "KIND_GPU but no GPUs", "`instance_group [{ kind: KIND_CPU }]`"),
    "gpu_number": (PYTHON, "instance_group { kind: KIND_GPU gpus: [0] }", "gpu id 0", "kind: KIND_CPU"),
    "cuda_library": (
        {"1/model.py": {"top": "import ctypes; ctypes.CDLL('libcudart.so.12')"}},
        None,
        r"libcudart\.so\.12: cannot open shared object.*\(at cuda_library/1/model\.py\(1\)",
        "take the package's CPU build",
    ),
    "plan": (
        {"1/model.plan": b"ptrt"},
        None,
        "backend 'tensorrt'",
        "serve the .onnx file that the plan was built from",
    ),
    "torch": ({"1/model.pt": b"PK"}, None, "backend 'pytorch'", "torch.onnx.export"),
    "saved": ({"1/model.savedmodel/saved_model.pb": b""}, None, "backend 'tensorflow'", "tf2onnx"),
    "backend": (ONNX, 'backend: "onnxruntme"', "backend 'onnxruntme'", "did you mean 'onnxruntime'?"),
    "platform": (ONNX, 'platform: "onnxruntime"', "unexpected platform type 'onnxruntime'", 'backend: "onnxruntime"'),
    "of_nothing": (
        {"1/.keep": b""},
        ENSEMBLE % "nothing",
        "not available or ambiguous: nothing",
        "correct its model_name",
    ),
    "of_a_bad_one": ({"1/.keep": b""}, ENSEMBLE % "syntax", "made of 'syntax', which failed: SyntaxError", ""),
}
GOOD = {
    "square": (ONNX, None),
    "prints": ({"1/model.py": {"initialize": "print('the weights are read')"}}, None),
    "own_module": ({"1/model.py": {"top": "import preprocessing"}, "1/preprocessing.py": ""}, None),
    # What Jupyter leaves beside the files that were edited in it.
    "checkpoints": (
        ONNX | {".ipynb_checkpoints/config-checkpoint.pbtxt": "", "1/.ipynb_checkpoints/model-checkpoint.onnx": b""},
        None,
    ),
    "divides": ({"1/model.py": {"execute": "1 / 0"}}, None),
    "answers_nothing": ({"1/model.py": {"execute": "return []"}}, None),
    "no_execute": ({"1/model.py": "class TritonPythonModel:\n    pass\n"}, 'backend: "python" ' + X_AND_Y % "4"),
    "no_inputs": ({"1/model.py": "class TritonPythonModel:\n    pass\n"}, None),
    "dies": ({"1/model.py": {"execute": "os.kill(os.getpid(), 11)"}}, None),
    "versions": (ONNX, None),
    "unloaded": (PYTHON, None),
    "tuned": (ONNX, TUNED),
    "tuned_again": (ONNX, None),
    "echo": (PYTHON, "instance_group { count: 2 kind: KIND_CPU } model_transaction_policy { decoupled: false }"),
    "echo_again": (PYTHON, None),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory, write_model):
    folder = tmp_path_factory.mktemp("pain-points") / "models"
    for name, (files, config, *_) in (BAD | GOOD).items():
        write_model(folder, name, files, config)
    write_model(folder, ".ipynb_checkpoints", {"net-checkpoint.onnx": b"no model"})
    return folder


@pytest.fixture(scope="module")
def deployment(repository):
    with tn.deploy(f"{repository}/", name="pain-points") as deployment:
        yield deployment


def test_exactly_the_bad_models_are_not_ready(deployment):
    assert deployment.state == "degraded"
    assert {model.name for model in deployment.models() if model.state != "READY"} == set(BAD)
    np.testing.assert_array_equal(deployment.infer("square", {"x": np.full((1, 4), 3.0)})["y"], np.full((1, 4), 9.0))


@pytest.mark.parametrize("model", BAD)
def test_a_model_that_cannot_be_loaded_tells_its_own_reason_and_the_cure(deployment, model):
    reason, hint = BAD[model][2:]
    told = next(state.reason for state in deployment.models() if state.name == model)
    assert re.search(reason, told)
    assert hint in told
    assert ("Hint: " in told) == bool(hint)
    assert "deployments/pain-points" not in told  # where tritonnb staged it is nobody's business
    with pytest.raises(TritonNbError) as caught:
        deployment.infer(model, {"x": [1.0]})
    assert re.search(reason.lstrip("^"), str(caught.value))
    assert str(caught.value).count("Hint: ") <= 1


def test_where_no_model_can_be_loaded_each_tells_why(tmp_path, write_model):
    for name in ("cut_off", "dollar", "platform"):
        write_model(tmp_path, name, *BAD[name][:2])
    with pytest.raises(DeploymentError) as caught:
        tn.deploy(tmp_path, name="pain-all-bad")
    told = str(caught.value)
    assert re.search(r"^  cut_off: .*is cut off", told, re.MULTILINE)
    assert re.search(r"^  dollar: .*line 1, column 17", told, re.MULTILINE)
    assert re.search(r"^  platform: unexpected platform type", told, re.MULTILINE)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((4,), r"\[4\], \[N, 4\] is expected: the batch dimension is missing.*\n.*x\[None\]"),
        ((16,), r"\[16\], \[N, 4\] is expected; N is the batch, 1 to 4"),
        ((2, 3), r"\[2, 3\], \[N, 4\] is expected; N is the batch, 1 to 4"),
        ((1, 2, 4), r"\[1, 2, 4\], \[N, 4\] is expected: one dimension too many"),
        ((5, 4), r"takes at most 4 in a batch, 5 were given.\n.*infer_many"),
    ],
)
def test_a_wrong_shape_is_told_with_the_right_one(deployment, given, told):
    with pytest.raises(InferenceError, match=told):
        deployment.infer("square", {"x": np.zeros(given, np.float32)})


def test_the_servers_own_words_for_a_forgotten_batch_dimension_mislead(deployment):
    tensor = {"name": "x", "shape": [16], "datatype": "FP32", "data": [0.0] * 16}
    request = urllib.request.Request(
        f"{deployment.url}/v2/models/square/infer", json.dumps({"inputs": [tensor]}).encode()
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert b"batch-size must be <= 4" in caught.value.read()


@pytest.mark.parametrize("model", ["tuned", "echo"])
def test_the_completed_configuration_serves_another_model_the_same_way(deployment, repository, model):
    from tritonnb.repository import pbtxt

    completed = deployment.config(model)
    written = pbtxt.to_text(pbtxt.from_json(completed))
    (repository / f"{model}_again" / "config.pbtxt").write_text(written)
    deployment.load(f"{model}_again")
    again = json.dumps(completed).replace(f'"name": "{model}', f'"name": "{model}_again')  # also its instance group's
    assert deployment.config(f"{model}_again") == json.loads(again)
    assert "runtime:" not in written


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("divides", r"ZeroDivisionError: division by zero \(at divides/1/model\.py\(13\): execute\)"),
        ("answers_nothing", r"InferenceResponse\(s\) size is:0\nHint: `def execute.*one InferenceResponse for each"),
        ("no_execute", r"does not implement `execute`.*\nHint: `def execute"),
        ("no_inputs", r"no input 'x'.\nHint: it has no inputs at all: name them in config\.pbtxt"),
    ],
)
def test_a_model_that_fails_at_a_request_tells_where_and_what_to_do(deployment, model, told):
    with pytest.raises(InferenceError, match=told):
        deployment.infer(model, {"x": np.zeros(4, np.float32)})


def test_a_model_that_dies_at_a_request_tells_of_what_and_serves_after_a_load(deployment):
    with pytest.raises(TritonNbError, match=r"died: Segmentation fault \(at dies/1/model\.py\(13\): execute\)"):
        deployment.infer("dies", {"x": np.zeros(4, np.float32)})
    assert next(model for model in deployment.models() if model.name == "dies").state == "DEGRADED"
    deployment.load("dies")
    assert next(model for model in deployment.models() if model.name == "dies").state == "READY"


def test_what_a_model_prints_is_in_the_log_while_it_runs(deployment):
    assert "the weights are read" in deployment.get_logs().splitlines()


def test_an_unloaded_model_gives_its_processes_back(deployment):
    stubs = list(deployment._run.engine._stubs["unloaded"])
    assert stubs
    deployment.unload("unloaded")
    assert not psutil.wait_procs(stubs, timeout=10)[1]


def test_a_new_version_is_served_after_a_load(deployment, repository, write_model):
    assert deployment.metadata("versions").versions == ("1",)
    write_model(repository, "versions", {"2/model.onnx": None})
    deployment.load("versions")
    assert deployment.metadata("versions").versions == ("2",)
    assert deployment.infer("versions", {"x": np.zeros((1, 4))}).version == "2"


def test_a_server_is_ready_while_a_model_still_loads_and_the_slow_one_is_named(tmp_path, write_model):
    write_model(tmp_path, "square", ONNX)
    write_model(tmp_path, "stuck", {"1/model.py": {"initialize": "time.sleep(60)"}})
    with tn.deploy(tmp_path, name="pain-stuck", wait=False) as deployment:
        with pytest.raises(DeploymentError, match=r"not ready after 4 s: 'stuck' is still loading") as caught:
            deployment.wait_for_deployment(timeout=4)
        assert "timeout=" in caught.value.hint
        with Client(deployment.endpoint) as client:
            assert client.ready()
            assert client.model_ready("square")
            assert not client.model_ready("stuck")


def test_a_full_dev_shm_is_told_as_that(tmp_path, write_model):
    write_model(tmp_path, "python", PYTHON)
    filesystem = os.statvfs("/dev/shm")
    more_than_there_is = filesystem.f_blocks * filesystem.f_frsize * 2
    flags = {"backend-config": [f"python,shm-default-byte-size={more_than_there_is}"]}
    with pytest.raises(DeploymentError, match=rf"no room in /dev/shm for {more_than_there_is} bytes") as caught:
        tn.deploy(tmp_path, name="pain-shm", server={"flags": flags})
    assert "`df -h /dev/shm`" in str(caught.value)


@pytest.mark.parametrize("given", [{"grpc_port": 0}, {"flags": {"grpc-port": 0}}], ids=["asked", "as a flag"])
def test_a_port_that_is_taken_is_named(tmp_path, write_model, given):
    write_model(tmp_path, "square", ONNX)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = json.loads(json.dumps(given).replace("0", str(port)))
        with pytest.raises(PortInUseError, match=str(port)) as caught:
            tn.deploy(tmp_path, name="pain-port", server=server)
    assert "choose another port" in caught.value.hint


def test_nothing_listening_is_told():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen: nobody else gets the port
        with pytest.raises(ServerUnreachableError, match=r"nothing listens at .*\n.*check that the server runs"):
            Client(Endpoint(f"http://127.0.0.1:{bound.getsockname()[1]}")).metadata("square")


def test_a_server_that_is_killed_says_so_with_the_likely_cause(tmp_path, write_model):
    write_model(tmp_path, "square", ONNX)
    with tn.deploy(tmp_path, name="pain-killed") as deployment:
        os.kill(deployment._run.engine._process.pid, signal.SIGKILL)
        with pytest.raises(TritonNbError, match=r"killed by signal 9(.|\n)*for want of memory"):
            deployment.infer("square", {"x": np.zeros((1, 4))})
