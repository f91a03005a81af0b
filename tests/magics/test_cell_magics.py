"""``%%triton_model`` and ``%%triton_pbtxt`` in a real shell: lines are counted as the notebook counts them."""

from __future__ import annotations

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError, ModelConfigError, RepositoryError, ServerError, UsageError
from tritonnb.handle import current

pytestmark = pytest.mark.requires("engine")

# Line 10 of the cell, the magic's own included, is the first of execute().
CODE = """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}})
        return config
    def execute(self, requests):
        {first}
        x = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)]) for x in x]
"""


def model_cell(line, first="pass"):
    return f"%%triton_model {line}\n{CODE.format(first=first)}"


def test_a_model_in_a_cell_is_loaded_and_shown_and_run_again_loaded_anew(serving):
    metadata = serving.run(model_cell("doubler -o shown"))
    assert [tensor.name for tensor in metadata.inputs] == ["x"]
    assert serving.shell.user_ns["shown"] is metadata
    np.testing.assert_array_equal(serving.run("%triton_infer doubler x=${x[0]}")["y"], [0, 2, 4, 6])

    serving.run(model_cell("doubler --on serving").replace("x * 2", "x * 3"))

    np.testing.assert_array_equal(serving.run("%triton_infer doubler x=${x[0]}")["y"], [0, 3, 6, 9])


@pytest.mark.parametrize("written", ["a file", "a variable"])
def test_a_config_comes_from_a_file_or_a_variable(serving, tmp_path, written):
    serving.shell.user_ns["text"] = "max_batch_size: 4\n"
    (tmp_path / "my.pbtxt").write_text("max_batch_size: 4\n")

    given = "$text" if written == "a variable" else tmp_path / "my.pbtxt"
    metadata = serving.run(model_cell(f"batches --config {given}"))

    assert metadata.max_batch_size == 4


def test_a_config_in_a_cell_is_taken_over_and_shown_completed(serving):
    config = serving.run("%%triton_pbtxt square -o shown\nmax_batch_size: 2\n")

    assert (config["max_batch_size"], config["backend"]) == (2, "onnxruntime")
    assert serving.shell.user_ns["shown"] is config


def test_a_config_before_its_model_waits_and_says_so(serving, capsys):
    assert serving.run("%%triton_pbtxt early\nmax_batch_size: 2\n") is None
    assert capsys.readouterr().out == "Kept for model 'early', which has no files yet: `%%triton_model early`.\n"

    assert serving.run(model_cell("early")).max_batch_size == 2


@pytest.mark.parametrize(
    ("cell", "error", "text"),
    [
        (model_cell("m", first="x y"), RepositoryError, "line 10 of the cell: invalid syntax"),
        (model_cell("m", first="pass").replace("import", "1 / 0; import"), ServerError, "line 2 of the cell: 1 / 0"),
        (model_cell("m --config nowhere.pbtxt"), UsageError, "nowhere.pbtxt cannot be read"),
        (model_cell("m --config $text"), ModelConfigError, "line 1, column 1: .*did you mean 'max_batch_size'"),
        (model_cell("m --on nobody"), DeploymentError, "No deployment 'nobody'"),
        (model_cell("m --confg x"), UsageError, "did you mean '--config'"),
        ("%%triton_pbtxt square\nname: 'square'\nmax_batchsize: 2", ModelConfigError, "line 3, column 1: "),
        ("%%triton_pbtxt\nname: 'square'", UsageError, "required: model"),
    ],
)
def test_a_mistake_is_told_with_the_line_that_the_notebook_shows(serving, capsys, cell, error, text):
    serving.shell.user_ns["text"] = "max_batchsize: 2"

    with pytest.raises(error, match=f"(?s){text}"):
        serving.run(cell)

    assert "Traceback" not in capsys.readouterr().out
    assert serving.run("%triton_metadata square").inputs[0].name == "x"


def test_an_error_in_execute_names_the_line_that_the_notebook_shows(serving):
    serving.run(model_cell("fails", first="raise KeyError('lost')"))

    with pytest.raises(ServerError, match=r"KeyError: 'lost'\n  line 10 of the cell, in execute: raise KeyError"):
        serving.run("%triton_infer fails x=${x[0]}")


def test_without_a_deployment_the_first_thing_to_do_is_named(serving, monkeypatch):
    monkeypatch.setattr(current, "_handles", {})

    with pytest.raises(DeploymentError, match="`%triton_deploy --name NAME` starts a server without models"):
        serving.run(model_cell("m"))


def test_a_connection_cannot_be_written_to(serving):
    own = tn.deployment("serving")
    with tn.connect(own.url, name="elsewhere"), pytest.raises(DeploymentError, match="run by somebody else"):
        serving.run(model_cell("m"))
