"""Triton's best classes as rows, what is shown of them, and that the real server answers so."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tritonnb as tn
from tritonnb.client import InferResult, ModelMetadata, TensorMetadata
from tritonnb.client.classification import Class, bars, read_classes
from tritonnb.client.options import InferOptions
from tritonnb.client.requests import wanted_outputs
from tritonnb.errors import InferenceError


def classified(*elements, pictures=(), **more):
    result = InferResult({"y": np.array(elements, dtype=object), **more}, model="m", version="1")
    result.show_classes(pictures)
    return result


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (b"18.000000:15:lab15", Class(18.0, 15, "lab15")),
        (b"-0.5:0", Class(-0.5, 0)),
        ("0.25:7:a label: with colons", Class(0.25, 7, "a label: with colons")),
        ("1e-07:3:grün".encode(), Class(1e-07, 3, "grün")),
        (b"1:2:\xff", Class(1.0, 2, "\ufffd")),
    ],
)
def test_an_element_is_score_index_and_where_there_is_one_label(element, expected):
    assert read_classes(np.array([element], dtype=object)) == [[expected]]


@given(st.floats(allow_nan=False), st.integers(0, 10**6), st.text())
def test_whatever_the_label_holds_comes_back(score, index, label):
    assert read_classes(np.array([f"{score!r}:{index}:{label}"], dtype=object)) == [[Class(score, index, label)]]


def test_a_batch_gives_a_list_for_each():
    answered = np.array([[b"2:0", b"1:1"], [b"4:1", b"3:0"]], dtype=object)
    assert [[each.index for each in row] for row in read_classes(answered)] == [[0, 1], [1, 0]]


@pytest.mark.parametrize("element", [b"", b"cat", b"1", b"x:1", b"1:x"])
def test_what_is_no_class_is_refused_with_what_was_seen(element):
    with pytest.raises(InferenceError, match=re.escape(repr(element))):
        read_classes(np.array([element], dtype=object))


@pytest.mark.parametrize(
    ("scores", "lengths"),
    [
        ([0.8, 0.1], [0.8, 0.1]),
        ([10.0, 5.0, 0.0], [1.0, 0.5, 0.0]),
        ([2.0, -2.0], [1.0, 0.0]),
        ([-1.0, -3.0], [2 / 3, 0.0]),
        ([0.0], [0.0]),
        ([float("inf"), 1.0, float("nan")], [1.0, 1.0, 0.0]),
        ([], []),
    ],
)
def test_a_bar_is_a_probability_or_a_part_of_the_greatest(scores, lengths):
    assert bars(scores) == pytest.approx(lengths)


def test_classes_are_shown_with_bars():
    assert repr(classified(b"0.5:285:Egyptian cat", b"0.25:3")) == (
        "Answer of m, version 1\n  y\n    Egyptian cat  285  0.5   ██████████\n    class 3       3    0.25  █████"
    )


def test_of_a_batch_each_has_its_own_rows():
    shown = repr(classified([b"0.5:1"], [b"1:0"]))
    assert "  y[0]\n    class 1  1  0.5  ██████████\n  y[1]\n    class 0  0  1  ████████████████████" in shown
    assert '<td rowspan="1">1</td>' in classified([b"0.5:1"], [b"1:0"])._repr_html_()


def test_pictures_stand_beside_their_classes_and_labels_are_escaped():
    html = classified([b"0.5:1:<script>"], pictures=[b"jpeg"])._repr_html_()
    assert '<img src="data:image/jpeg;base64,anBlZw==" alt="picture 0 of the request">' in html
    assert '<th scope="row">&lt;script&gt;</th><td>1</td><td>0.5</td><td><meter value="0.5">' in html
    assert "<script" not in html


def test_where_it_is_not_clear_whose_a_picture_is_it_is_left_out():
    assert "<img" not in classified([b"0.5:1"], [b"0.5:1"], pictures=[b"jpeg"])._repr_html_()


def test_values_are_not_taken_for_classes():
    answer = InferResult({"y": np.zeros(3), "z": np.array([b"1:2"], object)}, model="m", version="1")
    with pytest.raises(InferenceError, match=r"values of 'y'.*\n.*classes=5"):
        answer.classes("y")
    with pytest.raises(InferenceError, match=r"no output 'yy'.*\n.*did you mean 'y'"):
        answer.classes("yy")
    with pytest.raises(InferenceError, match=r"no output ''.*\n.*known: y, z"):
        answer.classes()
    assert answer.classes("z") == [[Class(1.0, 2)]]


def test_a_server_that_answers_values_all_the_same_is_shown_with_them():
    assert repr(classified(b"0.5:1", z=np.zeros(2))).endswith("  z  float64  [2]  [0, 0]")
    assert repr(classified(b"no class")).endswith("  y  bytes  [1]  ['no class']")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, square):
    """A deployment of a model with labels, of the same without."""
    models = tmp_path_factory.mktemp("labelled")
    for name in ("plain", "labelled"):
        (models / name / "1").mkdir(parents=True)
        (models / name / "1" / "model.onnx").write_bytes(square)
    (models / "labelled" / "labels.txt").write_text("zero\none: the first\ntwo\nthree\n")
    (models / "labelled" / "config.pbtxt").write_text(
        'output [{ name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "labels.txt" }]'
    )
    with tn.deploy(models, name="labelled") as deployment:
        yield deployment


@pytest.mark.requires("engine")
def test_the_server_answers_the_best_classes_of_each_of_a_batch(labelled):
    x = np.array([[1, 4, 2, 3], [9, 0, 0, 1]], np.float32)
    result = labelled.infer("labelled", {"x": x}, classes=2)
    assert result.classes() == [
        [Class(16.0, 1, "one: the first"), Class(9.0, 3, "three")],
        [Class(81.0, 0, "zero"), Class(1.0, 3, "three")],
    ]
    assert "one: the first  1  16" in repr(result)
    assert labelled.infer("plain", {"x": x}, classes=1).classes("y") == [[Class(16.0, 1)], [Class(81.0, 0)]]


@pytest.mark.requires("engine")
def test_more_classes_than_there_are_gives_all(labelled):
    result = labelled.infer("plain", {"x": np.ones((1, 4), np.float32)}, classes=9)
    assert len(result.classes()[0]) == 4


@pytest.mark.parametrize("outputs", [None, ["said"]])
def test_text_has_no_classes_and_the_server_is_not_asked_for_them(outputs):
    given = (TensorMetadata("y", "FP32", (2,)), TensorMetadata("said", "BYTES", (1,)))
    metadata = ModelMetadata("m", ("1",), "p", (), given)
    with pytest.raises(InferenceError, match="'said' holds text") as caught:
        wanted_outputs(metadata, InferOptions(classes=2, outputs=outputs))
    assert "'y'" in caught.value.hint
    assert wanted_outputs(metadata, InferOptions(classes=2, outputs=["y"])) == ["y"]
