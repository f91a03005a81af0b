"""The question answerer: its contract is BiDAF-9's, its answers those of a stand-in."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import tritonnb as tn
from tritonnb import samples
from tritonnb.errors import RepositoryError, SpecError, TritonNbError
from tritonnb.samples import word_vectors

FOX = "A quick brown fox jumped over the lazy dog ."
CURIE = "Marie Curie was born in Warsaw in 1867 . She moved to Paris to study physics . Pierre was her husband ."


def asked(context, query):
    """Return the model's inputs for texts with blanks between their words."""
    inputs = {}
    for side, text in (("context", context), ("query", query)):
        words = text.split()
        inputs[f"{side}_word"] = np.array([[word.lower()] for word in words], object)
        letters = [[*word[:16], *[""] * (16 - len(word))] for word in words]
        inputs[f"{side}_char"] = np.array(letters, object).reshape(-1, 1, 1, 16)
    return inputs


def said(context, start, end):
    assert (start.dtype, start.shape, end.dtype, end.shape) == (np.int32, (1,), np.int32, (1,))
    return " ".join(context.split()[start[0] : end[0] + 1])


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITONNB_HOME", str(tmp_path_factory.mktemp("home")))
        return onnxruntime.InferenceSession(samples.question_answerer())


def test_its_inputs_and_outputs_are_those_of_bidaf_9(session):
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in session.get_inputs()] == [
        ("context_word", "tensor(string)", ["c", 1]),
        ("context_char", "tensor(string)", ["c", 1, 1, 16]),
        ("query_word", "tensor(string)", ["q", 1]),
        ("query_char", "tensor(string)", ["q", 1, 1, 16]),
    ]
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in session.get_outputs()] == [
        ("start_pos", "tensor(int32)", [1]),
        ("end_pos", "tensor(int32)", [1]),
    ]


@pytest.mark.parametrize(
    ("context", "query", "answer"),
    [
        (FOX, "Which animal was lower ?", "dog"),
        (FOX, "What colour was the fox ?", "brown"),
        (FOX, "Who jumped over the dog ?", "fox"),
        (CURIE, "Where was Marie Curie born ?", "Warsaw"),
        (CURIE, "When was Marie Curie born ?", "1867"),
        (CURIE, "Who was her husband ?", "Pierre"),
        ("The game was played at Santa Clara in May .", "Where was the game played ?", "Santa Clara"),
    ],
)
def test_it_answers(session, context, query, answer):
    assert said(context, *session.run(None, asked(context, query))) == answer


def test_it_reads_words_and_not_sentences(session):
    # What the documentation says of it: the fox is the quick one.
    assert said(FOX, *session.run(None, asked(FOX, "Which animal was quick ?"))) == "dog"


@pytest.mark.parametrize(
    ("context", "query"), [("dog", "dog"), (". . .", "?"), ("Straße 東京 🦊", "Wo ?"), ("x" * 16, "the")]
)
def test_whatever_the_words_are_the_answer_lies_within_the_context(session, context, query):
    start, end = session.run(None, asked(context, query))
    assert 0 <= start[0] <= end[0] < len(context.split())


def test_an_empty_word_does_no_harm(session):
    inputs = asked(FOX, "Which animal was lower ?")
    inputs["query_word"][-1], inputs["query_char"][-1] = "", ""
    assert said(FOX, *session.run(None, inputs)) == "dog"


def test_the_model_is_valid_onnx_and_the_same_each_time(session, home):
    path = samples.question_answerer()
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {domain.domain: domain.version for domain in model.opset_import} == {"": 13, "ai.onnx.ml": 2}
    content = path.read_bytes()
    path.unlink()
    assert samples.question_answerer().read_bytes() == content
    assert len(content) < 12e6


@pytest.mark.requires("engine")
@pytest.mark.parametrize("how", [{}, {"binary": False}, {"protocol": "grpc"}], ids=["binary", "json", "grpc"])
def test_triton_serves_it_without_any_configuration(deployed, how):
    answer = deployed.infer(samples.ANSWERER_NAME, asked(FOX, "Which animal was lower ?"), **how)
    assert said(FOX, answer["start_pos"], answer["end_pos"]) == "dog"
    assert deployed.config(samples.ANSWERER_NAME)["max_batch_size"] == 0


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    samples.lay_out(folder, samples.ANSWERER_NAME)
    with tn.deploy(folder, name="answerer", engine="embedded") as dep:
        yield dep


def test_both_models_can_lie_in_one_folder(home, tmp_path):
    paths = [samples.lay_out(tmp_path, name) for name in (samples.MODEL_NAME, samples.ANSWERER_NAME)]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "triton/efficientnet_lite0/1/model.onnx",
        "triton/bidaf-shaped/1/model.onnx",
    ]
    assert paths[1].read_bytes() == samples.question_answerer().read_bytes()


def test_the_real_model_in_its_place_is_never_overwritten(home, tmp_path):
    model = tmp_path / "triton" / samples.ANSWERER_NAME / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"the real one")
    with pytest.raises(RepositoryError, match="is not the sample model"):
        samples.lay_out(tmp_path, samples.ANSWERER_NAME)
    assert model.read_bytes() == b"the real one"


def test_another_name_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(SpecError, match="efficientnet_lite0, bidaf-shaped") as caught:
        samples.lay_out(tmp_path, "bidaf_shaped")
    assert "bidaf-shaped" in caught.value.hint


def test_words_tell_the_more_the_longer_their_vectors():
    words = word_vectors.word_vectors()
    the, city, fox = (np.linalg.norm(words[word]) for word in ("the", "city", "fox"))
    assert [round(float(length), 1) for length in (the, city, fox)] == [1.6, 12.8, 24.9]
    assert {len(vector) for vector in words.values()} == {256}


def test_without_the_extra_the_error_names_the_package(home, monkeypatch):
    monkeypatch.setattr(word_vectors, "find_spec", lambda _: None)
    with pytest.raises(TritonNbError, match="need the package wordllama") as caught:
        samples.question_answerer()
    assert caught.value.hint == "pip install 'tritonnb[samples]'"


def test_without_onnx_the_error_names_it(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "tritonnb.samples.bidaf_shaped", raising=False)
    with pytest.raises(TritonNbError, match="need the package onnx"):
        samples.question_answerer()


def test_vectors_that_are_not_the_known_ones_are_refused_with_the_way_out(home, tmp_path, monkeypatch):
    class Damaged:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(word_vectors, "find_spec", lambda _: Damaged)
    with pytest.raises(TritonNbError, match="SHA-256 differs") as caught:
        samples.question_answerer()
    assert "pip install --force-reinstall 'wordllama" in caught.value.hint
