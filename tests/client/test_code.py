"""A request written as curl and as tritonclient: both are run, against a real server that asks for its key."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.client import ModelMetadata, TensorMetadata
from tritonnb.client.code import snippet
from tritonnb.client.options import InferOptions
from tritonnb.endpoint import Endpoint
from tritonnb.errors import InferenceError, SpecError

pytestmark = pytest.mark.requires("engine")

SMALL = np.arange(6, dtype=np.float32).reshape(2, 3)
LARGE = np.arange(3000, dtype=np.float32).reshape(2, 1500)
TEXTS = np.array([["it's", 'a "quote"', "$HOME `x` \\n", "grün\n{y}"]], dtype=object)


@pytest.fixture(scope="module")
def guarded(sources):
    """A deployment that asks for its key; its model echoes ``in_T`` as ``out_T`` for every datatype T."""
    with tn.deploy(sources / "echo", name="coded", auth=True) as deployment:
        yield deployment


@pytest.fixture
def run(guarded, tmp_path, monkeypatch, capfd):
    """Return a function that runs a snippet in a folder of its own and returns what it prints."""
    key = guarded.get_keys()[0]
    monkeypatch.setenv("TRITON_KEY", key)
    monkeypatch.chdir(tmp_path)

    def run(snippet, **names):
        assert key not in snippet.text
        snippet.write()
        if snippet.text.startswith("#"):
            subprocess.run(["bash", "-c", snippet.text], check=True)
        else:
            exec(compile(snippet.text, "snippet", "exec"), names)  # noqa: S102  (what the snippet is for)
        return capfd.readouterr().out

    return run


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@needs_curl
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("FP32", SMALL),
        ("INT64", np.array([[-(2**60)]])),
        ("BOOL", np.array([[True, False]])),
        ("STRING", TEXTS),
        ("FP32", np.array([[np.inf, 1e-40]], np.float32)),
    ],
)
def test_a_small_request_is_one_command_with_json(guarded, run, name, values):
    snippet = guarded.code("echo", {f"in_{name}": values}, request_id="7")
    assert not snippet.files
    answer = json.loads(run(snippet))
    assert answer["id"] == "7"
    assert answer["outputs"][0]["shape"] == list(values.shape)
    assert answer["outputs"][0]["data"] == values.ravel().tolist()


@needs_curl
@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("FP32", LARGE, {}),
        ("FP16", SMALL.astype(np.float16), {}),  # which JSON cannot hold
        ("FP32", SMALL, {"compression": "gzip"}),
    ],
)
def test_what_does_not_fit_a_line_of_json_goes_into_a_file(guarded, run, tmp_path, name, values, options):
    snippet = guarded.code("echo", {f"in_{name}": values}, **options)
    assert list(snippet.files) == ["echo-request.bin"]
    run(snippet)
    answer = (tmp_path / "echo-answer.bin").read_bytes()
    if options:
        assert json.loads(answer)["outputs"][0]["data"] == values.ravel().tolist()
    else:
        assert answer.endswith(values.tobytes())


PYTHON = [
    ("FP32", SMALL, {}),
    ("FP32", LARGE, {}),
    ("FP16", SMALL.astype(np.float16), {}),
    ("STRING", TEXTS, {}),
    ("INT8", np.array([[1, -2]], np.int8), {"binary": False}),
    ("FP32", SMALL, {"compression": "deflate", "timeout": 30.0}),
    ("FP32", SMALL, {"protocol": "grpc", "timeout": 30.0, "compression": "gzip"}),
    ("FP32", SMALL, {"request_id": "r", "version": "1", "headers": {"X-Tenant": "a b"}, "parameters": {"level": 2}}),
]


@pytest.mark.parametrize(("name", "values", "options"), PYTHON)
def test_the_python_runs_without_tritonnb_and_prints_the_same(guarded, run, name, values, options):
    snippet = guarded.code("echo", {f"in_{name}": values}, "python", outputs=[f"out_{name}"], **options)
    assert "tritonnb" not in snippet.text
    expected = guarded.infer("echo", {f"in_{name}": values}, outputs=[f"out_{name}"], **options)[f"out_{name}"]
    assert run(snippet) == f"out_{name} {expected}\n"


def test_an_array_of_the_notebook_is_called_by_its_name(guarded, run):
    snippet = guarded.code("echo", {"in_FP32": LARGE}, "python", names={"in_FP32": "x"}, outputs=["out_FP32"])
    assert "set_data_from_numpy(np.asarray(x, 'float32'))" in snippet.text
    assert not snippet.files
    assert run(snippet, x=LARGE) == f"out_FP32 {LARGE}\n"


def test_what_is_too_large_for_a_line_is_a_file_whatever_the_input_is_called():
    metadata = ModelMetadata("m", ("1",), "", (TensorMetadata("a/b:0", "FP32", (2, 1500)),), ())
    written = snippet("python", Endpoint("http://host:1/base"), metadata, {"a/b:0": LARGE}, InferOptions())
    assert list(written.files) == ["m-a_b_0.npy"]
    assert "np.load('m-a_b_0.npy')" in written.text
    assert "InferenceServerClient('host:1/base')" in written.text


def test_the_best_classes_are_asked_for(guarded, run):
    given = {"in_FP32": SMALL}
    snippet = guarded.code("echo", given, "python", outputs=["out_FP32"], classes=2)
    assert run(snippet) == f"out_FP32 {guarded.infer('echo', given, outputs=['out_FP32'], classes=2)['out_FP32']}\n"
    answer = guarded.code("echo", given, outputs=["out_FP32"], classes=2)
    assert json.loads(run(answer))["outputs"][0]["data"] == ["2.000000:2", "1.000000:1", "5.000000:2", "4.000000:1"]


def test_sequence_priority_and_waiting_time_are_said(guarded):
    options = {"sequence_id": 5, "sequence_start": True, "priority": 2, "queue_timeout": 0.5}
    text = guarded.code("echo", {"in_FP32": SMALL}, "python", **options).text
    for argument in ("sequence_id=5", "sequence_start=True", "priority=2", "timeout=500000"):
        assert f"    {argument}," in text
    assert '"timeout":500000' in re.sub(r"\s", "", guarded.code("echo", {"in_FP32": SMALL}, **options).text)


@pytest.mark.parametrize("language", ["curl", "python"])
def test_headers_are_written_but_for_those_that_sound_secret(guarded, language):
    headers = {"X-Tenant": "it's us", "X-Api-Key": "hidden"}
    text = guarded.code("echo", {"in_FP32": SMALL}, language, headers=headers).text
    assert "hidden" not in text
    assert "# The environment's X_API_KEY is the value of X-Api-Key." in text
    expected = {
        "curl": ["-H 'X-Tenant: it'\"'\"'s us'", '-H "X-Api-Key: $X_API_KEY"'],
        "python": ["'X-Tenant': \"it's us\"", "'X-Api-Key': f\"{os.environ['X_API_KEY']}\""],
    }
    assert all(header in text for header in expected[language])


def test_what_cannot_be_written_is_told(guarded):
    with pytest.raises(SpecError, match="did you mean 'curl'"):
        guarded.code("echo", {"in_FP32": SMALL}, "crul")
    with pytest.raises(SpecError, match=r"over gRPC.*\n.*--code"):
        guarded.code("echo", {"in_FP32": SMALL}, protocol="grpc")
    for language in ("curl", "python"):
        with pytest.raises(InferenceError, match="did you mean 'in_FP32'"):
            guarded.code("echo", {"in_FP3": SMALL}, language)
