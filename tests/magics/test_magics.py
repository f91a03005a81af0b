"""The magics, in a real IPython shell, against the real server."""

from __future__ import annotations

import numpy as np
import pytest
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell

import tritonnb as tn
from tritonnb.errors import DeploymentError, InferenceError, SpecError, TritonNbError, UsageError

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def shell(monkeypatch):
    """A shell with tritonnb loaded, whose deployments are gone afterwards."""
    monkeypatch.setattr(HistoryManager, "enabled", False)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "tritonnb")
    shell.user_ns.update(x=X, numpy=np)
    yield shell
    for running in tn.deployments():
        running.delete()
    InteractiveShell.clear_instance()


def run(shell, cell: str) -> object:
    """Run a cell and return its result, or raise its error."""
    outcome = shell.run_cell(cell)
    outcome.raise_error()
    return outcome.result


@pytest.fixture
def deployed(shell, square_file):
    run(shell, f"%triton_deploy {square_file} --name demo --engine embedded")
    return shell


@pytest.fixture
def square_file(tmp_path, square):
    (tmp_path / "square.onnx").write_bytes(square)
    return tmp_path / "square.onnx"


@pytest.mark.requires("engine")
def test_the_whole_path_by_magic(deployed, capsys):
    dep = run(deployed, "tn_dep = __import__('tritonnb').deployment(); tn_dep")
    assert repr(dep) == "<Deployment 'demo': ready, embedded engine>"
    assert run(deployed, "%triton_health").ready
    assert run(deployed, "%triton_metadata square").inputs[0].name == "x"
    result = run(deployed, "answer = %triton_infer square x=$x --request-id 7\nanswer")
    np.testing.assert_array_equal(result["y"], X * X)
    assert result.id == "7"
    run(deployed, "%triton_logs --lines 500")
    assert "successfully loaded 'square'" in capsys.readouterr().out
    run(deployed, "%triton_delete")
    assert capsys.readouterr().out == "Deployment 'demo' deleted.\n"
    assert tn.deployments() == []


@pytest.mark.requires("engine")
def test_a_cell_is_a_spec_and_can_be_stored_in_a_variable(shell, square_file):
    run(
        shell, f"%%triton_deploy celled -o handle\nmodels:\n  double:\n    path: {square_file}\n    max_batch_size: 2\n"
    )
    assert shell.user_ns["handle"].config("double")["max_batch_size"] == 2
    assert tn.deployment("celled") is shell.user_ns["handle"]


@pytest.mark.requires("engine")
@pytest.mark.parametrize(
    "value", ["$x", "${x * 1}", "${numpy.arange(8, dtype='float32').reshape(2, 4)}", "'[[0,1,2,3],[4,5,6,7]]'"]
)
def test_an_input_is_a_variable_an_expression_or_json(deployed, value):
    np.testing.assert_array_equal(run(deployed, f"%triton_infer square x={value}")["y"], X * X)


@pytest.mark.requires("engine")
def test_a_magic_sees_the_variables_of_the_function_it_is_in(deployed):
    code = "def call(mine):\n    return get_ipython().run_line_magic('triton_infer', 'square x=$mine')\ncall(x)"
    assert run(deployed, code)["y"].shape == (2, 4)


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("%triton_deploy --replce", UsageError, "unknown option --replce.\nHint: did you mean '--replace'"),
        ("%triton_deploy --engine embeded x", UsageError, "invalid choice: 'embeded'"),
        ("%triton_deploy --eng embedded x", UsageError, "unknown option --eng"),
        ("%triton_deploy 'unclosed", UsageError, "No closing quotation"),
        ("%triton_deploy", SpecError, "names no models"),
        ("%triton_deploy one two", UsageError, "unexpected 'two'"),
        ("%triton_deploy one --env NAME", UsageError, "--env NAME: a variable is NAME=VALUE"),
        ("%triton_deploy one --pip nltk=3.9", SpecError, "no requirement of pip's; did you mean 'nltk==3.9'"),
        ("%triton_deploy nowhere/models", TritonNbError, "nowhere"),
        ("%triton_infer", UsageError, "the following arguments are required: model"),
        ("%triton_infer square x", UsageError, "'x' is not input=value"),
        ("%triton_infer square x=$xx", UsageError, r"\$xx: no variable of this name"),
        ("%triton_infer square x=${1/0}", UsageError, "ZeroDivisionError"),
        ("%triton_health", DeploymentError, "No deployment runs in this kernel"),
        ("%triton_health --on other", DeploymentError, "No deployment"),
        ("%triton_delete", DeploymentError, "No deployment runs"),
        ("%%triton_deploy demo\nmodles: x", SpecError, "line 1.*modles.*did you mean 'models'"),
    ],
)
def test_a_wrong_line_is_a_short_error_that_helps(shell, capsys, line, error, text):
    with pytest.raises(error, match=f"(?s){text}"):
        run(shell, line)
    shown = capsys.readouterr().out
    assert "Traceback" not in shown
    assert error.__name__ in shown or "Error" in shown


@pytest.mark.requires("engine")
def test_a_wrong_request_is_told_with_what_the_model_expects(deployed):
    with pytest.raises(InferenceError, match="batch dimension"):
        run(deployed, "%triton_infer square x=${x[0]}")
    with pytest.raises(UsageError, match=r"did you mean \$x, the variable"):
        run(deployed, "%triton_infer square x=x")
    with pytest.raises(TritonNbError, match="did you mean 'square'"):
        run(deployed, "%triton_metadata sqare")


@pytest.mark.parametrize("name", ["deploy", "infer", "health", "metadata", "logs", "delete"])
def test_every_magic_has_help_both_ways(shell, capsys, name):
    assert run(shell, f"%triton_{name} --help") is None
    help_text = capsys.readouterr().out
    assert f"%triton_{name} [" in help_text
    assert shell.find_line_magic(f"triton_{name}").__doc__ == help_text


def test_a_comment_at_the_end_of_a_line_is_no_argument(shell):
    with pytest.raises(DeploymentError):
        run(shell, "%triton_health  # is it up?")


def test_unload_ext_takes_the_magics_away(shell):
    run(shell, "%unload_ext tritonnb")
    assert shell.find_line_magic("triton_deploy") is None
    assert shell.find_cell_magic("triton_deploy") is None


def test_a_magic_that_is_interrupted_says_so_in_a_line():
    from tritonnb.errors import Interrupted

    assert Interrupted("the request was given up")._render_traceback_() == ["Interrupted: the request was given up"]
    assert issubclass(Interrupted, KeyboardInterrupt)
