"""What a real tritonserver takes of what people give, and what its refusals are made to say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tritonnb.client.options import InferOptions
from tritonnb.client.refusals import refusal_hint
from tritonnb.client.tensors import HEADER_LENGTH, encode_request
from tritonnb.client.thumbnails import thumbnails
from tritonnb.client.transport import Transport
from tritonnb.errors import InferenceError, RequestRefusedError

pytestmark = pytest.mark.requires("engine")

ADDS_ITS_INPUTS = """
import functools, operator
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer([tensor.as_numpy() for tensor in request.inputs()]) for request in requests]

    def answer(self, arrays):
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", functools.reduce(operator.add, arrays))])
"""
MODELS = {
    "three": ("x", "FP32", [3], 4, ""),
    "two": ("ab", "FP32", [3], 4, ""),
    "any": ("x", "FP32", [-1, 2], 0, ""),
    "any_batched": ("x", "FP32", [-1, 2], 4, ""),
    "text": ("x", "STRING", [-1], 4, ""),
    "picture": ("x", "FP32", [3, 4, 6], 4, "format: FORMAT_NCHW"),
    "pixels": ("x", "UINT8", [-1, -1, -1], 4, "format: FORMAT_NHWC"),
}
EXPECTED = " Expected: x FP32 [N, 3]; N is the batch, 1 to 4."


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a repository of models that answer their input, or the sum of their two, as y."""
    repository = tmp_path_factory.mktemp("given") / "repository"
    for name, (inputs, kind, dims, most, more) in MODELS.items():
        (version := repository / name / "1").mkdir(parents=True)
        (version / "model.py").write_text(ADDS_ITS_INPUTS)
        tensor = f"data_type: TYPE_{kind} dims: {dims}"
        config = "".join(f'input {{ name: "{each}" {tensor} {more} }}\n' for each in inputs)
        (repository / name / "config.pbtxt").write_text(
            f'backend: "python"\nmax_batch_size: {most}\n{config}output {{ name: "y" {tensor} }}\n'
        )
    return repository


@pytest.fixture(scope="module")
def refused(endpoint, client):
    """Return a function that sends a request unchecked, as another client does, and gives the hint of its refusal."""
    transport = Transport(endpoint, 10)

    def hint(model, *inputs, known=True, **more):
        tensors = [
            {"name": name, "shape": shape, "datatype": datatype, "data": [1] * int(np.prod(shape))}
            for name, shape, datatype in inputs
        ]
        body = json.dumps({"inputs": tensors} | more).encode()
        answer = transport.request("POST", f"v2/models/{model}/infer", [body])
        assert answer.status == 400
        return refusal_hint(json.loads(answer.body)["error"], client.metadata(model) if known else None)

    yield hint
    transport.close()


@pytest.mark.parametrize(("model", "shape"), [("any", [0, 2]), ("any_batched", [2, 0, 2]), ("text", [1, 0])])
def test_empty_tensors_go_and_come_back(client, model, shape):
    answer = client.infer(model, {"x": np.empty(shape, object if model == "text" else "float32")})

    assert list(answer["y"].shape) == shape


def test_the_columns_of_a_frame_go_as_the_models_inputs(client):
    frame = pd.DataFrame({"x": ["one", "two"]})

    assert client.infer("text", frame, InferOptions(decode=True))["y"].tolist() == [["one"], ["two"]]
    assert thumbnails(frame) == []


def test_an_empty_batch_is_refused_as_the_server_would(client, refused):
    with pytest.raises(InferenceError, match="the batch is empty"):
        client.infer("any_batched", {"x": np.empty((0, 1, 2), "float32")})
    assert refused("three", ("x", [0, 3], "FP32")) == "Triton refuses a batch of none: send one at least." + EXPECTED


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_text_comes_back_as_text_where_that_is_asked_for(client, protocol):
    texts = [["grün", "nul\0"], ["", "日本"]]

    answer = client.infer("text", {"x": texts}, InferOptions(decode=True, protocol=protocol))

    assert answer["y"].tolist() == texts
    assert client.infer("text", {"x": "a"}, InferOptions(protocol=protocol))["y"].tolist() == [[b"a"]]


def test_bytes_that_are_no_text_say_so_and_come_without_decoding(client):
    with pytest.raises(InferenceError, match=r"the output 'y' holds bytes that are no UTF-8 text: b'\\xff'") as caught:
        client.infer("text", {"x": b"\xff"}, InferOptions(decode=True))
    assert "decode" in caught.value.hint
    assert client.infer("text", {"x": b"\xff"})["y"].tolist() == [[b"\xff"]]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_picture_goes_as_the_models_configuration_says(client, protocol):
    image = Image.new("RGB", (6, 4), (255, 0, 0))

    scaled = client.infer("picture", {"x": image}, InferOptions(scaling="inception", protocol=protocol))["y"]
    pixels = client.infer("pixels", {"x": image}, InferOptions(protocol=protocol))["y"]

    assert scaled[0, :, 0, 0].tolist() == [1, -1, -1]
    np.testing.assert_array_equal(pixels, np.asarray(image)[None])


@pytest.mark.parametrize("shape", [[16], [8, 3]])
def test_the_misleading_word_of_a_batch_too_large_names_the_forgotten_batch_dimension(refused, shape):
    assert refused("three", ("x", shape, "FP32")) == (
        "the first dimension of an input is taken for the batch: if it is none, the batch dimension was forgotten, "
        "and x[None] adds it; if it is, send 4 at a time or raise the model's max_batch_size." + EXPECTED
    )


@pytest.mark.parametrize(
    ("model", "shape", "hint"),
    [
        ("three", [3], "the batch dimension is missing: add it with x[None], or numpy.expand_dims(x, 0)."),
        ("any", [2], "the first dimension is missing: add it with x[None], or numpy.expand_dims(x, 0)."),
        ("three", [1, 1, 3], "one dimension too many: take the first one off with x[0]."),
        ("three", [3, 1], "two dimensions have changed places: turn it with x.transpose(1, 0)."),
        ("picture", [1, 4, 6, 3], "it is channels last, the model takes channels first: turn it with x.transpose(0, 3"),
        ("picture", [4, 6, 3], "channels first, and the batch dimension is missing: turn it with x.transpose(2, 0, 1)"),
        ("three", [1, 5], "-1 stands for any size."),
    ],
)
def test_a_refused_shape_is_told_its_likeliest_mistake(refused, model, shape, hint):
    assert hint in refused(model, ("x", shape, "FP32"))


def test_a_refused_dtype_is_told_its_cast(refused):
    assert refused("three", ("x", [1, 3], "INT64")) == 'cast it: x.astype("float32").' + EXPECTED
    assert refused("text", ("x", [1, 1], "FP32"), known=False) == 'cast it: x.astype("str").'


def test_refused_names_are_told_the_right_ones(refused):
    x = ("x", [1, 3], "FP32")
    assert refused("three", ("X", [1, 3], "FP32")) == "known: x." + EXPECTED
    assert refused("three", ("z", [1, 3], "FP32"), known=False) == "the model's metadata lists its inputs."
    assert refused("three", x, outputs=[{"name": "yy"}]) == "did you mean 'y'?" + EXPECTED


def test_missing_and_extra_inputs_are_told(refused):
    x, a = ("x", [1, 3], "FP32"), ("a", [1, 3], "FP32")
    assert refused("two", a, known=False) == "give 'b' too."
    assert refused("two", known=False) == "give 'a', 'b' too."
    assert refused("three", x, a) == "leave out 'a'." + EXPECTED


def test_batches_that_differ_and_bytes_that_do_not_fit_are_told(refused, endpoint):
    differ = refused("two", ("a", [1, 3], "FP32"), ("b", [2, 3], "FP32"))
    assert differ.startswith("the first dimension of every input is the batch, and must be the same in all of them.")
    header = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":24}}]}'
    transport = Transport(endpoint, 10)
    answer = transport.request(
        "POST",
        "v2/models/three/infer",
        [header, np.ones(3).tobytes()],
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    transport.close()
    assert refusal_hint(json.loads(answer.body)["error"]).startswith("the bytes sent are not those of the shape")


def test_a_refusal_keeps_the_servers_words_beside_the_hint(client):
    parts, length = encode_request({"x": np.ones(16, "float32")})
    client.metadata("three")

    with pytest.raises(RequestRefusedError) as caught:
        client.send_infer("three", InferOptions(), parts, {HEADER_LENGTH: str(length)})

    assert caught.value.message == (
        "model 'three' answered with an error: inference request batch-size must be <= 4 for 'three'"
    )
    assert "the batch dimension was forgotten" in caught.value.hint
    assert caught.value.hint.endswith(EXPECTED)
    assert caught.value.status == 400


def test_a_models_own_words_are_no_refusal_of_the_request():
    assert not refusal_hint("ValueError: the ink has run out")
