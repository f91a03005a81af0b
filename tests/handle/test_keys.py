"""Who has the key is served, who has not is refused, and nobody gets to see it who did not ask for it."""

from __future__ import annotations

import logging
import re
import subprocess
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

import tritonnb as tn
from tritonnb import records
from tritonnb.errors import SpecError, TritonNbError

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)

PUBLIC = ["v2", "v2/health/live", "v2/health/ready", "v2/models/square", "v2/models/square/config",
          "v2/models/square/stats", "v2/models/square/ready"]  # fmt: skip
ADMINISTRATIVE = [
    ("POST", "v2/repository/index"),
    ("POST", "v2/repository/models/square/load"),
    ("GET", "v2/systemsharedmemory/status"),
    ("GET", "v2/trace/setting"),
    ("GET", "v2/logging"),
]


@pytest.fixture(scope="module", params=[True, False], ids=["auth", "open"])
def dep(request, tmp_path_factory, square):
    folder = tmp_path_factory.mktemp("keys") / "models" / "square" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    with tn.deploy(folder.parents[1], name=f"keys-{'auth' if request.param else 'open'}", auth=request.param) as dep:
        yield dep


def status(url: str, headers: dict[str, str], method: str = "GET") -> int:
    request = urllib.request.Request(url, b"{}" if method == "POST" else None, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def curl(dep, *arguments: str) -> str:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{dep.scoring_uri}/v2/health/ready", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_curl_is_served_with_the_bearer_key_and_refused_without_where_auth_is_on(dep):
    (key,) = dep.get_keys()
    refused = "403" if dep.spec.auth else "200"
    assert curl(dep, "-H", f"Authorization: Bearer {key}") == "200"
    assert curl(dep) == refused
    assert curl(dep, "-H", "Authorization: Bearer wrong") == refused
    assert curl(dep, "-H", f"Authorization: {key}") == refused


@pytest.mark.parametrize("path", PUBLIC)
def test_everything_needs_the_key_where_auth_is_on(dep, path):
    assert status(f"{dep.url}/{path}", {}) == (403 if dep.spec.auth else 200)
    assert status(f"{dep.url}/{path}", dict(dep.headers)) == 200


@pytest.mark.parametrize(("method", "path"), ADMINISTRATIVE)
def test_administration_always_needs_the_key(dep, method, path):
    assert status(f"{dep.url}/{path}", {}, method) == 403
    assert status(f"{dep.url}/{path}", dict(dep.headers), method) == 200


def test_the_metrics_are_text_and_tritonnb_reads_them(dep):
    assert re.search(r'nv_inference_request_success\{model="square",version="1"\} \d', dep.metrics())


def infer(client, module):
    tensor = module.InferInput("x", [2, 4], "FP32")
    tensor.set_data_from_numpy(X)
    return client.infer("square", [tensor]).as_numpy("y")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_official_clients_carry_the_key(dep, protocol):
    module = getattr(tritonclient, protocol)
    client = dep.client(protocol)
    assert client.is_server_ready()
    np.testing.assert_array_equal(infer(client, module), X * X)
    assert client.get_model_repository_index()
    client.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_official_client_without_the_key_is_refused_what_needs_one(dep, protocol):
    module = getattr(tritonclient, protocol)
    address = dep.grpc_url if protocol == "grpc" else dep.url.removeprefix("http://")
    with module.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException):
            client.get_model_repository_index()
        with pytest.raises(InferenceServerException):
            client.load_model("square")
        if dep.spec.auth:
            with pytest.raises(InferenceServerException):
                infer(client, module)
            with pytest.raises(InferenceServerException):
                client.get_model_metadata("square")
        else:
            np.testing.assert_array_equal(infer(client, module), X * X)
            assert client.is_server_ready()


def test_the_key_shows_nowhere(dep, caplog, capfd, tmp_path):
    (key,) = dep.get_keys()
    with caplog.at_level(logging.DEBUG):
        shown = [dep, dep.endpoint, dep.health(), dep.models(), dep.spec, dep.metadata("square"), dep.config("square")]
        texts = [repr(thing) for thing in shown]
        texts += [thing._repr_html_() for thing in shown if hasattr(thing, "_repr_html_")]
        texts += [dep.get_logs(), dep.metrics(), repr(records.records()), repr(dep._run._client), dep.spec.to_yaml()]
        wrongs = [
            lambda: dep.infer("square", {"z": X}),
            lambda: dep.infer("square", {"x": X[:, :1]}),
            lambda: dep.infer("other", {"x": X}),
            lambda: dep.load("other"),
            lambda: dep.metadata("square", "7"),
            lambda: dep.client("carrier pigeon"),
            lambda: dep.update(server={"flags": {"log-verbus": "1"}}),
            lambda: dep.update(server={"flags": {"http-thread-count": "many"}}),
            lambda: dep.update(models=tmp_path / "nowhere"),
            lambda: dep.regen_key("Tertiary"),
            lambda: tn.deploy(dep.spec.replace(restart="on-failure")),
            lambda: tn.connect(dep.grpc_url, key=key),
            lambda: tn.connect(dep.url, key=key, name=dep.name),
            lambda: tn.connect("http://127.0.0.1:9", key=key),
        ]
        for wrong in wrongs:
            with pytest.raises(TritonNbError) as caught:
                wrong()
            texts += [str(caught.value), repr(caught.value), *caught.value._render_traceback_()]
            texts += [str(caught.value.__cause__), str(caught.value.__context__)]
    texts += [caplog.text, *capfd.readouterr()]
    assert not [text for text in texts if key in text]


def test_others_cannot_read_the_files_that_hold_the_key(dep):
    folder = records.record_of(dep.name).folder
    assert folder.stat().st_mode & 0o077 == 0
    (key,) = dep.get_keys()
    holding = [file for file in folder.rglob("*") if file.is_file() and key.encode() in file.read_bytes()]
    assert {file.name for file in holding} == {"deployment.json", "job.json"}
    assert not [file for file in holding if file.stat().st_mode & 0o077]


def test_a_regenerated_key_replaces_the_old_one(repository, name, server_of):
    dep = tn.deploy(repository, name=name, auth=True)
    old, server = dict(dep.headers), server_of(name)
    dep.regen_key()
    assert dep.headers != old
    assert not server.is_running()
    assert status(f"{dep.url}/v2/health/ready", old) == 403
    assert status(f"{dep.url}/v2/health/ready", dict(dep.headers)) == 200
    assert dep.infer("square", {"x": X})["y"].shape == (2, 4)
    assert tn.deployment(name) is dep
    now = dep.get_keys()
    with pytest.raises(SpecError, match=r"no key 'Secondary'.*\n.*there is one, 'Primary'"):
        dep.regen_key("Secondary")
    assert dep.get_keys() == now
