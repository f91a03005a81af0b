"""Models written in cells are served at once, win over the sources, outlive changes, and fail by their own line."""

from __future__ import annotations

import socket

import numpy as np
import pytest

import tritonnb as tn
from tritonnb import records
from tritonnb.errors import DeploymentError, ModelConfigError, RepositoryError, ServerError, TritonNbError
from tritonnb.handle import Deployment, current

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)

CODE = """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 4]}})
        return config
    def initialize(self, args):
        {initialize}
    def execute(self, requests):
        x = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", {y})]) for x in x]
"""

ENSEMBLE = """
platform: "ensemble"
input [{{ name: "x" data_type: TYPE_FP32 dims: [-1, 4] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [-1, 4] }}]
ensemble_scheduling {{
  step [
    {{ model_name: "{first}" model_version: -1
      input_map {{ key: "x" value: "x" }} output_map {{ key: "y" value: "between" }} }},
    {{ model_name: "{second}" model_version: -1
      input_map {{ key: "x" value: "between" }} output_map {{ key: "y" value: "y" }} }}
  ]
}}
"""


def code(y="x", initialize="pass"):
    return CODE.format(y=y, initialize=initialize)


@pytest.fixture(scope="module")
def sources(tmp_path_factory, square):
    """A repository with one ONNX model, in versions 2 and 3."""
    folder = tmp_path_factory.mktemp("sources")
    for version in ("2", "3"):
        (folder / "square" / version).mkdir(parents=True)
        (folder / "square" / version / "model.onnx").write_bytes(square)
    return folder


@pytest.fixture(scope="module")
def dep(sources):
    with tn.deploy(sources, name="celled") as deployment:
        yield deployment


def answer(dep, model):
    return dep.infer(model, {"x": X})["y"]


def state_of(dep, model):
    return {state.state for state in dep.models() if state.name == model and state.reason != "unloaded"}


def test_a_model_is_served_at_once_and_anew_when_it_is_written_again(dep):
    dep.write_model("times", code("x * 2"))
    np.testing.assert_array_equal(answer(dep, "times"), X * 2)

    dep.write_model("times", code("x * 3"))
    np.testing.assert_array_equal(answer(dep, "times"), X * 3)
    assert dep.state == "ready"


def test_the_same_code_written_again_is_run_again(dep, tmp_path):
    (tmp_path / "factor").write_text("2")
    reads = code("x * self.factor", f"self.factor = int(open({str(tmp_path / 'factor')!r}).read())")
    dep.write_model("reads", reads)
    (tmp_path / "factor").write_text("5")

    dep.write_model("reads", reads)

    np.testing.assert_array_equal(answer(dep, "reads"), X * 5)


def test_code_wins_over_an_onnx_model_of_the_sources_and_their_files_stay(dep, sources):
    before = {path: path.stat() for path in sources.rglob("*")}

    dep.write_model("square", code("x + 1"))

    np.testing.assert_array_equal(answer(dep, "square"), X + 1)
    assert dep.metadata("square").versions == ("3",)
    assert {path: path.stat() for path in sources.rglob("*")} == before


def test_a_config_of_an_onnx_model_is_taken_over_and_its_file_is_not_needed(dep, tmp_path, square):
    (tmp_path / "net.onnx").write_bytes(square)
    with tn.deploy(tmp_path / "net.onnx", name="configured") as own:
        assert own.write_config("net", "max_batch_size: 2")
        assert own.config("net")["max_batch_size"] == 2
        assert own.write_config("net", "max_batch_size: 16")
        assert own.config("net")["max_batch_size"] == 16
        np.testing.assert_array_equal(answer(own, "net"), X * X)


def test_a_config_waits_for_its_model(dep):
    assert not dep.write_config("awaited", "instance_group [{ count: 2 kind: KIND_CPU }]")
    with pytest.raises(DeploymentError, match="no model 'awaited'"):
        dep.infer("awaited", {"x": X})
    assert dep.state == "ready"

    dep.write_model("awaited", code())

    assert dep.config("awaited")["instance_group"][0]["count"] == 2


def test_a_config_can_be_given_with_its_model(dep):
    dep.write_model("together", code(), config="instance_group [{ count: 3 kind: KIND_CPU }]")

    assert dep.config("together")["instance_group"][0]["count"] == 3


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (
            lambda dep: dep.write_model("kept", code("x x")),
            RepositoryError,
            r"Model 'kept', line 12 of the cell: .*\n.*\"y\", x x.*\n +\^",
        ),
        (lambda dep: dep.write_model("kept", "\0"), RepositoryError, "null bytes"),
        (lambda dep: dep.write_model("ke pt", code()), RepositoryError, "'ke pt' is no name for a model"),
        (
            lambda dep: dep.write_config("kept", "\nmax_batch_size: 4\n max_batchsize: 8"),
            ModelConfigError,
            r"The cell, line 3, column 2: .*\n.*\n +\^\nHint: did you mean 'max_batch_size'",
        ),
        (lambda dep: dep.write_config("kept", "name: 'lost'"), ModelConfigError, "of model 'kept' and names it 'lost'"),
        (
            lambda dep: dep.write_model("kept", code(initialize="raise ValueError('no weights')")),
            ServerError,
            r"ValueError: no weights\n  line 9 of the cell, in initialize: raise Value(.|\n)*before goes on serving",
        ),
        (
            lambda dep: dep.write_model("kept", "import absent\n" + code()),
            ServerError,
            r"No module named 'absent'\n  line 1 of the cell: import absent(.|\n)*goes on serving",
        ),
        (
            lambda dep: dep.write_config("kept", "instance_group [{ kind: KIND_GPU }]"),
            ServerError,
            r"KIND_GPU(.|\n)*goes on serving",
        ),
    ],
    ids=["syntax", "zero byte", "name", "pbtxt", "other name", "initialize", "import", "config"],
)
def test_what_served_goes_on_serving_after_a_mistake_and_comes_back_after_a_reload(dep, write, error, message):
    dep.write_model("kept", code("x * 7"))

    with pytest.raises(error) as caught:
        write(dep)

    assert caught.match(message)
    assert dep.state == "ready"
    np.testing.assert_array_equal(answer(dep, "kept"), X * 7)
    dep.unload("kept")
    dep.load("kept")
    np.testing.assert_array_equal(answer(dep, "kept"), X * 7)


def test_an_error_in_execute_names_the_cells_own_line_also_within_an_ensemble(dep):
    dep.write_model("fails", code("[][len(x)]"))
    dep.write_config("around", ENSEMBLE.format(first="fails", second="fails"))

    for model in ("fails", "around"):
        with pytest.raises(tn.TritonNbError, match=r"IndexError: .*\n  line 12 of the cell, in .*: return \[pb_utils"):
            answer(dep, model)


def test_a_first_try_that_fails_is_listed_with_its_line_and_mended_by_the_next(sources):
    with tn.deploy(sources, name="tried") as dep:
        with pytest.raises(ServerError, match="line 9 of the cell, in initialize: 1 / 0"):
            dep.write_model("new", code(initialize="1 / 0"))
        assert dep.state == "degraded"
        assert "line 9 of the cell" in next(state.reason for state in dep.models() if state.name == "new")
        with pytest.raises(DeploymentError, match="line 9 of the cell"):
            answer(dep, "new")

        dep.write_model("new", code())

        assert dep.state == "ready"
        np.testing.assert_array_equal(answer(dep, "new"), X)


def test_a_deployment_may_begin_without_models_and_its_cells_outlive_every_change(sources):
    with tn.deploy(name="empty") as dep:
        assert (dep.state, list(dep.models())) == ("ready", [])
        dep.write_model("times", code("x * 2"), config="instance_group [{ count: 2 kind: KIND_CPU }]")

        dep.update(models=sources)
        np.testing.assert_array_equal(answer(dep, "times"), X * 2)
        url = dep.url
        dep.update(auth=True)
        assert dep.url != url
        np.testing.assert_array_equal(answer(dep, "times"), X * 2)
        dep.reload()
        np.testing.assert_array_equal(answer(dep, "times"), X * 2)
        assert tn.deploy(sources, name="empty", auth=True) is dep
        np.testing.assert_array_equal(answer(dep, "times"), X * 2)
        assert dep.config("times")["instance_group"][0]["count"] == 2

        other = Deployment.attach(records.record_of("empty"))
        other.settle(None, lambda: None)
        other.write_model("added", code("x * 4"))
        np.testing.assert_array_equal(answer(dep, "added"), X * 4)
        dep.reload()
        np.testing.assert_array_equal(answer(other, "added"), X * 4)
        current.forget(other)


def test_a_server_that_gives_its_port_to_the_next_gives_its_cells_too():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tn.deploy(name="ported", server={"http_port": port}) as dep:
        dep.write_model("times", code("x * 2"))
        dep.update(auth=True)
        assert dep.url.endswith(f":{port}")
        np.testing.assert_array_equal(answer(dep, "times"), X * 2)

        with pytest.raises(TritonNbError, match="no flag 'log-verbus'"):
            dep.update(server={"flags": {"log-verbus": "1"}})
        dep.wait_for_deployment()
        np.testing.assert_array_equal(answer(dep, "times"), X * 2)


def test_nothing_to_serve_and_no_name_is_still_an_error():
    with pytest.raises(tn.TritonNbError, match=r"names no models(.|\n)*with a `name` alone"):
        tn.deploy()


# The sources themselves -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A deployment of Python models and an ensemble of two of them, and the folder of its sources."""
    folder = tmp_path_factory.mktemp("edited")

    def write(model, text, version="1"):
        (folder / model / version).mkdir(parents=True, exist_ok=True)
        (folder / model / version / "model.py").write_text(text)

    write("double", code("x * 2"))
    write("ten", code("x + 10"))
    write("alone", code("x"))
    for name, second in (("both", "ten"), ("twice", "double")):
        (folder / name).mkdir()
        (folder / name / "config.pbtxt").write_text(ENSEMBLE.format(first="double", second=second))
    with tn.deploy(folder, name="edited") as dep:
        yield dep, write


def test_an_edit_of_the_users_own_file_is_served_after_a_load(edited):
    dep, write = edited
    write("alone", code("x - 1"))
    np.testing.assert_array_equal(answer(dep, "alone"), X)
    dep.load("alone")
    np.testing.assert_array_equal(answer(dep, "alone"), X - 1)


def test_an_edit_that_fails_leaves_what_was_loaded_serving_and_says_so(edited):
    dep, write = edited
    before = answer(dep, "alone")
    write("alone", code(initialize="oh"))

    with pytest.raises(ServerError, match=r"NameError: name 'oh' .*alone/1/model.py\(9\): initialize"):
        dep.load("alone")

    np.testing.assert_array_equal(answer(dep, "alone"), before)
    assert dep.state == "degraded"
    assert "loading it anew failed: NameError" in next(state.reason for state in dep.models() if state.name == "alone")
    write("alone", code("x - 2"))
    dep.load("alone")
    assert dep.state == "ready"
    np.testing.assert_array_equal(answer(dep, "alone"), X - 2)


def test_a_new_version_folder_is_served_after_a_load_and_a_reload(edited):
    dep, write = edited
    write("alone", code("x * 20"), "2")
    dep.load("alone")
    np.testing.assert_array_equal(answer(dep, "alone"), X * 20)
    assert dep.metadata("alone").versions == ("2",)

    write("alone", code("x * 300"), "10")
    dep.reload()
    np.testing.assert_array_equal(answer(dep, "alone"), X * 300)
    assert dep.metadata("alone").versions == ("10",)


def test_a_reloaded_model_is_not_called_degraded_when_its_old_process_ends(edited):
    dep, write = edited
    old = next(iter(dep._run.engine._stubs["ten"]))
    write("ten", code("x + 10") + "# changed\n")

    dep.load("ten")
    old.wait(30)

    assert dep.state == "ready"


def test_unloading_an_ensemble_takes_its_parts_along_but_for_those_that_another_needs(edited):
    dep, _ = edited
    np.testing.assert_array_equal(answer(dep, "both"), X * 2 + 10)

    dep.unload("both", dependents=True)

    assert state_of(dep, "both") | state_of(dep, "ten") <= {"UNLOADING"}
    np.testing.assert_array_equal(answer(dep, "twice"), X * 4)
    dep.unload("twice", dependents=True)
    assert state_of(dep, "twice") | state_of(dep, "double") <= {"UNLOADING"}
    assert dep.state == "ready"
    dep.load("both")
    np.testing.assert_array_equal(answer(dep, "both"), X * 2 + 10)
    np.testing.assert_array_equal(answer(dep, "double"), X * 2)


def test_a_part_that_is_unloaded_takes_its_ensemble_along_and_brings_it_back(edited):
    dep, _ = edited
    dep.load("both")

    dep.unload("ten")
    with pytest.raises(TritonNbError, match="'both'"):
        answer(dep, "both")

    dep.load("ten")
    np.testing.assert_array_equal(answer(dep, "both"), X * 2 + 10)
