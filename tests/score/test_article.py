"""The article's two samples, whole and offline: registered models, entry scripts, packages, keys; /score in front."""

from __future__ import annotations

import difflib
import io
import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import tritonnb as tn
from tritonnb import samples
from tritonnb.errors import ScoringError

SOURCES = Path(__file__).parents[2] / "notebooks" / "src"
WRITTEN_THEN = Path(__file__).parent / "scripts_of_2021"
DEMO = {"context": "A quick brown fox jumped over the lazy dog.", "query": "Which animal was lower?"}

pytestmark = pytest.mark.requires("engine")


def png(name: str) -> bytes:
    file = io.BytesIO()
    samples.picture(name).save(file, "PNG")
    return file.getvalue()


def asked(dep, body=None, kind="application/octet-stream", key=""):
    """Ask /score as any HTTP client would; return status and text."""
    headers = {"Content-Type": kind, **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(dep.scoring_uri, body, headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder that both samples' models lie in, with the classifier's labels."""
    folder = tmp_path_factory.mktemp("article") / "models"
    for name in (samples.MODEL_NAME, samples.ANSWERER_NAME):
        samples.lay_out(folder, name)
    (folder / "triton" / samples.MODEL_NAME / "labels.txt").write_text("\n".join(samples.labels()))
    return folder


@pytest.fixture(scope="module")
def registered(models):
    model = tn.register(model_path=models, model_name="article-samples", model_framework="Multi")
    yield model
    model.delete()


@pytest.fixture(scope="module")
def classifier(registered):
    """Deployed as the article does it: a registered model, an entry script in a folder, WORKER_COUNT, keys."""
    with tn.deploy(
        registered.id,
        name="classifier",
        engine="embedded",
        auth_enabled=True,
        environment={"pip": ["pillow"], "variables": {"WORKER_COUNT": "2"}},
        score={"source_directory": SOURCES, "entry_script": "score_classifier.py", "port": 0},
    ) as dep:
        dep.wait_for_deployment(show_output=True)
        yield dep


@pytest.mark.parametrize(("name", "label"), [("chelsea", "285 : Egyptian cat"), ("coffee", "967 : espresso")])
def test_the_classifier_s_script_names_what_is_in_the_bytes_of_a_picture(classifier, name, label):
    assert asked(classifier, png(name), key=classifier.get_keys()[0]) == (200, label)
    assert classifier.run(png(name)) == label


def test_the_script_says_what_triton_says_to_an_array(classifier):
    answer = classifier.infer(samples.MODEL_NAME, {"data_0": samples.preprocess(samples.picture("camera"))})
    best = int(answer["fc6_1"].argmax())
    assert classifier.run(png("camera")) == f"{best} : {samples.labels()[best]}"


def test_the_classifier_s_script_gives_its_own_answer_to_what_is_no_picture(classifier):
    assert asked(classifier, b"a text", key=classifier.get_keys()[0]) == (400, "this is no picture")
    assert asked(classifier, key=classifier.get_keys()[0]) == (405, "send a picture with POST")


def test_both_keys_open_score_and_nothing_else_does(classifier):
    primary, secondary = classifier.get_keys()
    assert [asked(classifier, png("coffee"), key=key)[0] for key in (primary, secondary, "", "wrong")] == [
        200,
        200,
        401,
        401,
    ]
    classifier.regen_key("Secondary")
    assert asked(classifier, png("coffee"), key=secondary)[0] == 401
    assert asked(classifier, png("coffee"), key=classifier.get_keys()[1])[0] == 200


def test_as_many_workers_as_worker_count_says_answer(classifier):
    def workers():
        return {line.split("[worker ")[1][0] for line in classifier.get_logs().splitlines() if "POST /score" in line}

    for _ in range(100):
        if workers() == {"1", "2"}:
            return
        classifier.run(png("coffee"))
    pytest.fail(f"only {workers()} answered")


@pytest.fixture(scope="module")
def classifier_alone(models):
    with _behind(models, "score_classifier_alone.py", "pillow") as dep:
        yield dep


@pytest.fixture(scope="module")
def answerer(models):
    with _behind(models, "score_answerer.py", "nltk") as dep:
        yield dep


def _behind(models, script, package):
    name = script.removesuffix(".py").replace("_", "-")
    score = {"source_directory": SOURCES, "entry_script": script, "port": 0}
    return tn.deploy(models, name=name, engine="embedded", environment={"pip": [package]}, score=score)


def test_with_the_model_inside_the_script_answers_the_same(classifier_alone):
    assert [classifier_alone.run(png(name)) for name in ("chelsea", "coffee")] == [
        "285 : Egyptian cat",
        "967 : espresso",
    ]


def test_the_answerer_s_script_answers_the_article_s_question(answerer):
    assert answerer.run(DEMO) == {"answer": "dog", "start": 8, "end": 8}
    status, text = asked(answerer, json.dumps(DEMO).encode(), "application/json")
    assert (status, json.loads(text)["answer"]) == (200, "dog")


def test_sentences_are_taken_apart_although_nltk_has_no_data(answerer):
    text = "She was born in 1867. She moved to Paris. There she met Pierre."
    assert answerer.run({"context": text, "query": "When was she born?"})["answer"] == "1867"


@pytest.mark.parametrize("asked_for", [{"context": "", "query": "Who?"}, {"context": "A fox.", "query": " "}])
def test_without_words_there_is_no_answer(answerer, asked_for):
    assert answerer.run(asked_for) == {"answer": ""}


def test_what_the_answerer_s_script_trips_over_is_told_with_its_line(answerer):
    with pytest.raises(ScoringError, match=r"KeyError: 'query'\n.*score_answerer\.py, line \d+") as caught:
        answerer.run({"context": "A fox."})
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("script", "deployment", "data", "answer"),
    [
        ("densenet_of_the_article.py", "classifier_alone", png("chelsea"), "285 : Egyptian cat"),
        ("bidaf_of_the_article.py", "answerer", json.dumps(DEMO), ["dog"]),
    ],
    ids=["densenet", "bidaf"],
)
def test_a_script_of_the_article_s_time_runs_with_one_line_changed(request, tmp_path, script, deployment, data, answer):
    shutil.copytree(WRITTEN_THEN, tmp_path / "src")
    before = (tmp_path / "src" / script).read_text()
    after = before.replace('"localhost:8000"', 'os.environ["TRITON_URL"]')
    (tmp_path / "src" / script).write_text(after)
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+ ")]
    assert len(changed) == 1

    dep = request.getfixturevalue(deployment)
    ours = dep.spec.score
    dep.update(score={"source_directory": tmp_path / "src", "entry_script": script, "port": 0})
    try:
        assert dep.run(data) == answer
    finally:
        dep.update(score={"source_directory": ours.source_directory, "entry_script": ours.entry_script, "port": 0})


def test_another_model_with_bidaf_9_s_contract_takes_the_stand_in_s_place_unchanged(answerer, models):
    model = models / "triton" / samples.ANSWERER_NAME / "1" / "model.onnx"
    stand_in = model.read_bytes()
    model.write_bytes(finds_the_lazy_one())
    try:
        answerer.reload()
        assert answerer.run(DEMO)["answer"] == "lazy"
    finally:
        model.write_bytes(stand_in)
        answerer.reload()


def finds_the_lazy_one() -> bytes:
    """Return a model of BiDAF-9's age: opset 9, with ai.onnx.ml 1's CategoryMapper on its words."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info(f"{side}_{part}", TensorProto.STRING, [side[0], *shape])
        for side in ("context", "query")
        for part, shape in (("word", [1]), ("char", [1, 1, 16]))
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT32, [1]) for name in ("start_pos", "end_pos")]
    category = {"cats_strings": ["lazy"], "cats_int64s": [1], "default_int64": 0}
    nodes = [
        helper.make_node("CategoryMapper", ["context_word"], ["codes"], domain="ai.onnx.ml", **category),
        helper.make_node("Squeeze", ["codes"], ["lazy"], axes=[1]),
        helper.make_node("ArgMax", ["lazy"], ["place"], axis=0),
        helper.make_node("Cast", ["place"], ["start_pos"], to=TensorProto.INT32),
        helper.make_node("Cast", ["place"], ["end_pos"], to=TensorProto.INT32),
    ]
    opsets = [helper.make_opsetid("", 9), helper.make_opsetid("ai.onnx.ml", 1)]
    graph = helper.make_graph(nodes, "lazy", inputs, outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=4).SerializeToString()
