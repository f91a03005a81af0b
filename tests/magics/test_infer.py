"""What may stand on the line of ``%triton_infer``, against the real server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from protocol_models import write_protocol_models

from tritonnb.client.classification import Class
from tritonnb.client.pictures import SCALINGS
from tritonnb.errors import InferenceError, TritonNbError, UsageError
from tritonnb.magics.options import PARSERS

pytestmark = pytest.mark.requires("engine")

README = Path(__file__).parents[2] / "README.md"
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def told(serving, tmp_path_factory):
    """The shell, with a second deployment ``told``, its latest: of a teller, a repeater, scores, and reddish."""
    repository = tmp_path_factory.mktemp("told") / "models"
    write_protocol_models(repository, "accumulator", "repeater", "scores", "teller")
    (repository / "reddish" / "1").mkdir(parents=True)
    (repository / "reddish" / "1" / "model.onnx").write_bytes(mean_of_each_channel())
    serving.run(f"%triton_deploy {repository} --name told --engine embedded")
    return serving


def mean_of_each_channel() -> bytes:
    """Return an ONNX model of pictures [N, 3, 8, 8] that answers how red, green and blue they are, [N, 3]."""
    from onnx import TensorProto, helper

    mean = helper.make_node("ReduceMean", ["picture"], ["colours"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [mean],
        "reddish",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("colours", TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture
def red(tmp_path):
    """Return the path of a picture that is all red."""
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def told_by(shell, options):
    """Return what the model was told by a request with these options."""
    return json.loads(shell.run(f"%triton_infer teller text='[\"hi\"]' {options}")["told"][0])


def test_parameters_are_numbers_and_truths_as_json_writes_them_else_text(told):
    sent = told_by(told, "--param level=2 --param share=0.5 --param on=true --param name='a b' --param list=[1]")
    assert sent["parameters"] == {"level": 2, "share": 0.5, "on": True, "name": "a b", "list": "[1]"}


@pytest.mark.parametrize("way", ["", "--json", "--protocol grpc", "--compression gzip", "--header X-Tenant=a"])
def test_a_request_arrives_the_same_every_way(told, way):
    sent = told_by(told, f"--request-id r7 --sequence 5:start --param a=$level {way} # {way}".replace("$level", "1"))
    assert (sent["id"], sent["parameters"]["a"]) == ("r7", 1)


def test_a_sequence_begins_and_ends_where_it_is_said(told):
    for which in ("7", "a-text"):
        sums = [
            told.run(f"%triton_infer accumulator x=[[{x}]] --sequence {which}{mark}")["sum"].item()
            for x, mark in ((3, ":start"), (4, ""), (5, ":end"), (1, ":start:end"))
        ]
        assert sums == [3, 7, 12, 1]


def test_text_comes_back_as_text_where_that_is_asked_for(told):
    assert isinstance(told.run("%triton_infer teller text='[\"a\"]' --outputs told --decode")["told"][0], str)
    assert told_by(told, "--outputs told")["wanted"] == ["told"]


def test_the_best_classes_are_shown_beside_the_picture(told, red):
    result = told.run(f"%triton_infer reddish picture={red} --classes 2 --scaling unit")
    assert result.classes() == [[Class(1.0, 0), Class(0.0, 1)]]
    assert '<img src="data:image/jpeg;base64,' in result._repr_html_()
    labelled = told.run("%triton_infer scores x=[[0.1,0.7,0.2]] --outputs scores --classes 1")
    assert repr(labelled) == "Answer of scores, version 1\n  scores\n    dog  1  0.7  ██████████████"


def test_the_readme_has_every_option():
    section = README.read_text().partition("## Asking a model")[2].partition("\n## ")[0]
    options = {*PARSERS["triton_infer"].options(), "-o"} - {"--help"}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section)) == options


def test_every_scaling_is_offered():
    assert list(PARSERS["triton_infer"].option("--scaling").choices) == list(SCALINGS)


def test_a_picture_that_is_not_there_is_told(told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InferenceError, match=r"there is no file 'cat\.png'"):
        told.run("%triton_infer reddish picture=cat.png")
    with pytest.raises(UsageError, match=r"neither \$name nor JSON, nor a file"):
        told.run("%triton_infer reddish picture=cat")
    for text in ("[" + "1," * 200, "~nobody/cat", "notes.txt"):
        with pytest.raises(UsageError, match="nor JSON, nor a file"):
            told.run(f"%triton_infer teller text={text}")
    Path("notes.txt").write_text("of twenty characters")
    assert told.run("%triton_infer teller text=notes.txt")["length"].item() == 1


def test_random_inputs_fit_the_model_and_those_that_are_given_stay(told):
    assert told.run("%triton_infer square --random --batch 3 --on serving")["y"].shape == (3, 4)
    same, again, other = (
        told.run(f"%triton_infer square --random {seed} --on serving") for seed in ("", "", "--seed 1")
    )
    np.testing.assert_array_equal(same["y"], again["y"])
    assert (same["y"] != other["y"]).any()
    np.testing.assert_array_equal(told.run("%triton_infer square x=$x --random --on serving")["y"], X * X)
    with pytest.raises(TritonNbError, match="--shape text=8"):
        told.run("%triton_infer teller --random")
    assert told.run("%triton_infer teller --random --shape text=5")["length"].item() == 5


def test_the_answers_of_a_stream_are_shown_as_they_come(told, capsys):
    answers = told.run("%triton_infer repeater times=[3] --stream --decode -o kept")
    assert [answer["text"].item() for answer in answers] == ["word 0", "word 1", "word 2"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Answer of repeater, version 1"
    assert [line for line in printed if "text" in line] == [f"  text  str    [1]  ['word {i}']" for i in range(3)]
    assert told.shell.user_ns["kept"] is answers
    with pytest.raises(TritonNbError, match="stream"):
        told.run("%triton_infer repeater times=[3]")


def test_where_the_time_went_is_shown_below_the_answer(told):
    result = told.run("%triton_infer teller text='[\"hi\"]' --timing")
    assert "Where the time went\n  client and transport" in repr(result)
    assert result.timing.total_s > 0


def test_the_result_is_stored_and_can_be_silenced(told):
    assert told.run("%triton_infer square x=$x --on serving -o answer;") is None
    np.testing.assert_array_equal(told.shell.user_ns["answer"]["y"], X * X)


def test_curl_is_shown_instead_of_sent_and_does_the_same(told, capsys):
    command = told.run("%triton_infer square x=$x --on serving --curl")
    assert command.text in capsys.readouterr().out
    assert "KEY" not in command.text  # this server asks for none
    done = subprocess.run(["bash", "-c", command.text], capture_output=True, check=True)
    assert json.loads(done.stdout)["outputs"][0]["data"] == (X * X).ravel().tolist()


def test_code_calls_the_notebook_s_variables_by_their_names(told, capsys):
    program = told.run("%triton_infer square x=${x * 2} --on serving --code -o program;")
    assert program is None
    text = told.shell.user_ns["program"].text
    assert "np.asarray(x * 2, 'float32')" in text
    capsys.readouterr()
    told.run(text)
    assert capsys.readouterr().out == f"y {4 * X * X}\n"


def test_a_large_request_s_file_is_written_and_told(told, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told.run("%triton_infer teller --random --shape text=500 --curl")
    size = Path("teller-request.bin").stat().st_size
    assert f"teller-request.bin: {size:,} bytes, written into the current folder." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--batch 3", r"--batch is about random inputs.*\n.*add --random"),
        ("--param level", "--param 'level' is not NAME=VALUE"),
        ("--header =1", "--header '=1' is not NAME=VALUE"),
        ("--sequence 5:begin", "--sequence '5:begin' cannot be read.*\n.*ID:start"),
        ("--random --shape x=a,b", "'a,b' is no shape"),
        ("--timing --curl", "not allowed with"),
        ("--compression zip", "invalid choice"),
        ("--classes many", "invalid int value"),
        ("--clases 3", "did you mean '--classes'"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_sent(told, options, text):
    before = told.run("%triton_statistics square --on serving")[0]["inference_count"]
    with pytest.raises(UsageError, match=text):
        told.run(f"%triton_infer square x=$x --on serving {options}")
    assert told.run("%triton_statistics square --on serving")[0]["inference_count"] == before
