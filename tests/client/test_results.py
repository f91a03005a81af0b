"""What is shown of results, as text and as HTML."""

from __future__ import annotations

import pickle
from html.parser import HTMLParser

import numpy as np
import pytest

from tritonnb.client import Health, InferResult, ModelMetadata, ModelState, TensorMetadata

METADATA = ModelMetadata(
    "classifier",
    ("1", "2"),
    "onnxruntime_onnx",
    (TensorMetadata("data_0", "FP32", (-1, 3, -1, 224)), TensorMetadata("k", "INT64", (-1, 1), optional=True)),
    (TensorMetadata("fc6_1", "FP32", (-1, 1000)),),
    max_batch_size=4,
)
EVIL = "<script>alert('&')</script>"
EVIL_TENSOR = TensorMetadata(EVIL, EVIL, (1,))
EVIL_STATE = ModelState(EVIL, EVIL, EVIL, EVIL)


def result(**outputs):
    return InferResult(outputs, model="m", version="1", id="")


def shown(array):
    """Return what the repr says of one output's values."""
    return repr(result(y=array)).split("]  ", 1)[1]


def test_metadata_shows_the_batch_as_n_and_any_size_as_a_question_mark():
    assert repr(METADATA) == (
        "Model classifier, versions 1, 2, onnxruntime_onnx, batches N of up to 4\n"
        "  input            data_0  FP32   [N, 3, ?, 224]\n"
        "  input, optional  k       INT64  [N, 1]\n"
        "  output           fc6_1   FP32   [N, 1000]"
    )


def test_metadata_without_batch_says_so():
    metadata = ModelMetadata("m", ("1",), "", (TensorMetadata("x", "BYTES", (-1, 4)),), ())

    assert repr(metadata) == "Model m, version 1, no batch dimension\n  input  x  BYTES  [?, 4]"
    assert repr(metadata.inputs[0]) == "x BYTES [?, 4]"


def test_health_shows_every_model_and_the_first_line_of_its_reason():
    health = Health(
        "degraded",
        live=True,
        ready=True,
        models=(
            ModelState("classifier", "1", "READY"),
            ModelState("bad", "", "UNAVAILABLE", "no ONNX file\nsecond line"),
        ),
    )

    assert repr(health) == (
        "Health: degraded (server live, ready)\n  classifier  1  READY\n  bad         -  UNAVAILABLE  no ONNX file"
    )
    assert repr(Health("stopped", live=False, ready=False)) == "Health: stopped (server not live, not ready)"


def test_a_result_shows_small_outputs_whole_and_large_ones_as_their_range_and_first_values():
    answer = InferResult(
        {"scores": np.array([[0.123456, 1234.5]], "float32"), "image": np.arange(300).reshape(1, 300)},
        model="m",
        version="2",
        id="r1",
    )

    assert repr(answer) == (
        "Answer of m, version 2, request r1\n"
        "  scores  float32  [1, 2]    [[0.12, 1.2e+03]]\n"
        "  image   int64    [1, 300]  0 to 299: 0, 1, 2, ..."
    )


def test_floats_are_rounded_to_two_digits_only_where_stable_output_is_asked_for(monkeypatch):
    assert shown(np.array([0.123456])) == "[0.12]"
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    assert shown(np.array([0.123456])) == "[0.1235]"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((0, 3)), "empty"),
        (np.array([True, False]), "[True, False]"),
        (np.arange(100) < 30, "30 of 100 true: True, True, True, ..."),
        (np.array(["a", "b"], dtype=object), "['a', 'b']"),
        (np.array([b"a", "grün".encode(), b"\xff"], dtype=object), "['a', 'grün', b'\\xff']"),
        (np.array([b"a", b"b", b"c", b"d"] * 10, dtype=object), "'a', 'b', 'c', ..."),
        (np.array([np.nan, *range(40)]), "0 to 39, 1 NaN: nan, 0, 1, ..."),
        (np.full(40, np.nan), "40 NaN: nan, nan, nan, ..."),
        (np.array(5), "5"),
    ],
)
def test_values_of_every_kind_are_shown(array, text):
    assert shown(array) == text


def test_text_and_bytes_are_told_apart():
    assert repr(result(y=np.array(["a"], dtype=object))).splitlines()[1] == "  y  str  [1]  ['a']"
    assert repr(result(y=np.array([b"a"], dtype=object))).splitlines()[1] == "  y  bytes  [1]  ['a']"


def test_a_result_is_a_dict_of_arrays_that_can_be_pickled():
    answer = result(y=np.arange(3))

    copy = pickle.loads(pickle.dumps(answer))  # noqa: S301  (its own pickle)

    assert (copy.model, copy.version, copy.id) == ("m", "1", "")
    np.testing.assert_array_equal(copy["y"], answer["y"])


class Table(HTMLParser):
    """Takes a table apart as a browser would."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scopes, self.texts = set(), set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.scopes.update(value for name, value in attrs if name == "scope")

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


@pytest.mark.parametrize(
    "value",
    [
        ModelMetadata(EVIL, (EVIL,), EVIL, (EVIL_TENSOR,), (EVIL_TENSOR,)),
        EVIL_STATE,
        Health(EVIL, live=True, ready=True, models=(EVIL_STATE,)),
        InferResult({EVIL: np.array([EVIL.encode()], dtype=object)}, model=EVIL, version=EVIL, id=EVIL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_html_is_a_captioned_table_with_headers_and_never_a_script(value):
    table = Table(value._repr_html_())

    assert table.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert table.scopes == {"col", "row"}
    assert any(EVIL in text for text in table.texts)


def test_html_holds_what_the_text_holds():
    assert Table(METADATA._repr_html_()).texts == [
        *("Model classifier, versions 1, 2, onnxruntime_onnx, batches N of up to 4",),
        *("Tensor", "Kind", "Datatype", "Shape"),
        *("data_0", "input", "FP32", "[N, 3, ?, 224]"),
        *("k", "input, optional", "INT64", "[N, 1]"),
        *("fc6_1", "output", "FP32", "[N, 1000]"),
    ]
