"""The registry of models: versions, copies, several notebooks at once, and deployments from it."""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError, HomeError, RegistryError, RepositoryError, SpecError
from tritonnb.home import home
from tritonnb.spec import Spec

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def fresh(tmp_path, monkeypatch, square):
    """An empty registry, and a folder to work in with ``net.onnx`` and the article's ``models/triton/square``."""
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "home"))
    return laid_out(tmp_path / "work", monkeypatch, square)


@pytest.fixture
def name(tmp_path, monkeypatch, square):
    """A registered name, in the home where the engine is; the folder to work in is as in `fresh`."""
    laid_out(tmp_path / "work", monkeypatch, square)
    name = f"kept-{secrets.token_hex(3)}"
    yield name
    for running in tn.deployments():
        running.delete()
    for model in tn.registered():
        if model.name.startswith(name):
            model.delete()


def laid_out(folder, monkeypatch, square):
    for file in ("net.onnx", "models/triton/square/1/model.onnx"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(square)
    monkeypatch.chdir(folder)
    return folder


def begin(code: str, **options) -> subprocess.Popen:
    """Start another process that runs Python."""
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Names and versions ---------------------------------------------------------------------------------------------------


def test_versions_number_themselves_and_are_listed_by_name_and_version(fresh):
    assert [tn.register("net.onnx", "net").version for _ in range(3)] == [1, 2, 3]
    tn.register("models", "articles")
    assert [model.id for model in tn.registered()] == ["articles:1", "net:1", "net:2", "net:3"]
    assert [model.id for model in tn.registered("net")] == ["net:1", "net:2", "net:3"]
    assert [model.id for model in tn.registered("net:2")] == ["net:2"]
    assert [model.id for model in tn.registered("net:latest")] == ["net:3"]


def test_a_version_can_be_chosen_and_the_next_one_follows_it(fresh):
    tn.register("net.onnx", "net", 7)
    assert tn.register("net.onnx", "net").version == 8
    assert tn.register("net.onnx", "net", 3).version == 3
    assert tn.register("net.onnx", "net").version == 9
    with pytest.raises(RegistryError, match=r"Version 7 of 'net' is registered already.*\n.*becomes 10"):
        tn.register("net.onnx", "net", 7)


def test_the_number_of_a_deleted_version_never_comes_again(fresh):
    tn.register("net.onnx", "net").delete()
    assert tn.registered() == []
    assert tn.register("net.onnx", "net").version == 2
    assert files(home() / "registry" / "models") == ["net/2/net.onnx"]


def test_deleting_twice_is_told(fresh):
    model = tn.register("net.onnx", "net")
    model.delete()
    with pytest.raises(RegistryError, match="'net:1' is not registered any more"):
        model.delete()


def test_azure_ml_s_words_are_accepted(fresh):
    model = tn.register(
        model_path="models",
        model_name="bidaf",
        model_framework="MULTI",
        sample_input_dataset=["text"],
        tags={"area": "qa"},
        description="Answers questions.",
    )
    assert (model.name, model.framework, model.sample_input) == ("bidaf", "Multi", ["text"])
    assert (dict(model.tags), model.description) == ({"area": "qa"}, "Answers questions.")


def test_models_are_filtered_by_tags(fresh):
    tn.register("net.onnx", "one", tags={"task": "qa", "size": 2})
    tn.register("net.onnx", "two", tags=["task=vision"])
    tn.register("net.onnx", "three", tags=["final"])

    def names(tags):
        return [model.name for model in tn.registered(tags=tags)]

    assert names({"task": "qa"}) == ["one"]
    assert names(["task"]) == ["one", "two"]
    assert names(["task=vision"]) == ["two"]
    assert names({"task": "qa", "size": "3"}) == []
    assert names("final") == ["three"]


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ({"x": X, "mask": np.array([True])}, dict),
        ({"text": np.array(["a", "b"], dtype=object)}, dict),
        ({"data": [[1, 2], [3, 4]]}, dict),
        ("a sentence", str),
    ],
)
def test_a_sample_input_comes_back_as_it_was_given(sample, kind, fresh):
    tn.register("net.onnx", "net", sample_input=sample)
    [model] = tn.registered("net")
    back = model.sample_input
    assert isinstance(back, kind)
    if kind is str:
        assert back == sample
        return
    assert back.keys() == sample.keys()
    for key, value in sample.items():
        np.testing.assert_array_equal(back[key], value)
        if value is X:
            assert back[key].dtype == np.float32


def test_a_model_without_a_sample_input_has_none(fresh):
    assert tn.register("net.onnx", "net").sample_input is None


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"name": "net:1"}, SpecError, "'net:1' is no name.*\n.*version is a parameter"),
        ({"name": None}, SpecError, "None is no name"),
        ({"name": "net", "version": 0}, SpecError, "0 is no version"),
        ({"name": "net", "version": "1"}, SpecError, "'1' is no version"),
        ({"name": "net", "framework": "onx"}, SpecError, "none of Azure ML's.*\n.*did you mean 'Onnx'"),
        ({"name": "net", "tag": {}}, SpecError, "no parameter 'tag'.*\n.*did you mean 'tags'"),
        ({"name": "net", "model_name": "net"}, SpecError, "model_name and name are the same"),
        ({"name": "net", "sample_input": {"x": b"1"}}, RegistryError, "bytes is not JSON"),
        ({"name": "net", "sample_input": X}, RegistryError, "cannot be kept: .*ndarray.*\n.*dict of arrays by input"),
        ({"name": "net", "path": "nt.onnx"}, RepositoryError, "no 'nt.onnx' in .*\n.*did you mean 'net.onnx'"),
        ({"name": "net", "path": ""}, SpecError, "is no path"),
    ],
)
def test_what_cannot_be_registered_is_said_and_nothing_is(asked, error, said, fresh):
    with pytest.raises(error, match=said):
        tn.register(**{"path": "net.onnx", **asked})
    assert tn.registered() == []


def test_an_unknown_name_is_told_with_the_nearest_and_an_unknown_version_with_those_there_are(fresh):
    with pytest.raises(RegistryError, match=r"as 'net'.\n.*tn.register"):
        tn.registered("net")
    tn.register("models", "articles-model")
    with pytest.raises(RegistryError, match=r"registered as 'article-model'.*\n.*did you mean 'articles-model'"):
        tn.registered("article-model")
    with pytest.raises(RegistryError, match=r"no version '3'.*\n.*registered versions: 1\."):
        tn.registered("articles-model:3")
    with pytest.raises(
        RegistryError, match=r"'square' is Triton's name of a model that is registered as 'articles-model'"
    ):
        tn.registered("square")


# The copy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept", "triton_models"),
    [
        ("net.onnx", ["net.onnx"], ("net",)),
        ("models", ["models/triton/square/1/model.onnx"], ("square",)),
        ("models/triton", ["triton/square/1/model.onnx"], ("square",)),
        ("models/triton/square", ["square/1/model.onnx"], ("square",)),
        ("models/triton/square/1", ["square/1/model.onnx"], ("square",)),
        ("models/triton/square/1/model.onnx", ["square/1/model.onnx"], ("square",)),
        ("model.onnx", ["model.onnx"], ("lone",)),
        ("script", ["script/weights.bin"], ()),
    ],
)
def test_every_layout_keeps_its_files_names_and_triton_s_name(given, kept, triton_models, fresh, square):
    (fresh / "model.onnx").write_bytes(square)
    (fresh / "script").mkdir()
    (fresh / "script" / "weights.bin").write_bytes(b"weights")
    model = tn.register(given, "lone")
    assert files(model.folder) == kept
    assert model.triton_models == triton_models
    if triton_models:
        from tritonnb.repository import find_models

        assert tuple(found.name for found in find_models(model.path)) == triton_models


def test_clutter_is_left_out_and_empty_version_folders_are_kept(fresh):
    (fresh / "models" / ".ipynb_checkpoints").mkdir()
    (fresh / "models" / ".ipynb_checkpoints" / "x").write_text("")
    ensemble = fresh / "models" / "triton" / "both"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text('platform: "ensemble"')
    model = tn.register("models", "net")
    assert files(model.folder) == ["models/triton/both/config.pbtxt", "models/triton/square/1/model.onnx"]
    assert (model.path / "triton" / "both" / "1").is_dir()
    assert model.triton_models == ("both", "square")


def test_weights_beside_an_onnx_file_are_copied_and_their_loss_is_told(fresh):
    import onnx
    from onnx import numpy_helper

    net = onnx.load("net.onnx")
    net.graph.initializer.append(numpy_helper.from_array(np.zeros(1024, np.float32), "w"))
    onnx.save_model(net, "big.onnx", save_as_external_data=True, location="big.bin", size_threshold=0)
    assert files(tn.register("big.onnx", "big").folder) == ["big.bin", "big.onnx"]
    Path("big.bin").unlink()
    with pytest.raises(RegistryError, match=r"weights in 'big\.bin'"):
        tn.register("big.onnx", "big")
    assert len(tn.registered()) == 1


def test_the_copy_stays_as_it_was_when_the_original_is_edited_in_place(fresh, square):
    Path("net.onnx").chmod(0o600)
    model = tn.register("net.onnx", "net")
    with Path("net.onnx").open("r+b") as file:
        file.write(b"something else")
    assert model.path.read_bytes() == square
    assert model.path.stat().st_mode & 0o777 == 0o400


def test_the_same_files_have_the_same_hash_and_that_is_said(fresh):
    first, second = (tn.register("net.onnx", "net") for _ in range(2))
    Path("net.onnx").write_bytes(b"another")
    third = tn.register("net.onnx", "net")
    assert first.sha256 == second.sha256 != third.sha256
    assert (first.same_as, second.same_as, third.same_as) == (None, 1, None)
    assert "Same files as    version 1" in repr(second)


def test_a_link_that_leads_nowhere_is_refused_and_nothing_is_registered(fresh):
    (fresh / "models" / "triton" / "square" / "1" / "more").symlink_to("/nowhere")
    with pytest.raises(RepositoryError, match="a link to nothing"):
        tn.register("models", "net")
    assert tn.registered() == []
    assert list((home() / "registry" / "drafts").iterdir()) == []


# Several at once, and ends in the middle ------------------------------------------------------------------------------


def test_processes_that_register_one_name_at_once_get_different_versions(fresh):
    code = "import tritonnb as tn; print(*(tn.register('net.onnx', 'net').version for _ in range(5)))"
    processes = [begin(code) for _ in range(4)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, told
    assert sorted(int(word) for out, _ in told for word in out.split()) == list(range(1, 21))
    assert [model.version for model in tn.registered("net")] == list(range(1, 21))
    assert all(model.path.is_file() for model in tn.registered("net"))


# What the copy tells of its progress is where it waits for the test.
STOPPED_IN_THE_MIDDLE = """
import tritonnb as tn
from tritonnb.registry import copying, registering
whole = copying.copy
def half(source, base, target, report):
    def stop(text, fraction):
        if fraction >= 0.5:
            print("half", flush=True)
            input()
    return whole(source, base, target, stop)
registering.copy = half
tn.register("models", "net")
"""


@pytest.fixture
def stopped_in_the_middle(fresh):
    """Another process that has copied half of a model."""
    (fresh / "models" / "triton" / "square" / "1" / "second.bin").write_bytes(bytes(1000))
    process = begin(STOPPED_IN_THE_MIDDLE, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "half\n", process.stderr.read()
    yield process
    process.kill()
    process.communicate()


def test_a_process_killed_in_the_middle_leaves_nothing_to_be_seen_and_the_next_one_cleans_up(stopped_in_the_middle):
    drafts = home() / "registry" / "drafts"
    assert files(drafts)
    tn.register("net.onnx", "other")
    assert files(drafts), "whoever registers beside it must not take its files away"
    stopped_in_the_middle.kill()
    stopped_in_the_middle.wait()
    assert [model.id for model in tn.registered()] == ["other:1"]
    assert tn.register("net.onnx", "net").version == 1
    assert list(drafts.iterdir()) == []


def test_ctrl_c_in_the_middle_registers_nothing_and_leaves_nothing(stopped_in_the_middle):
    stopped_in_the_middle.send_signal(signal.SIGINT)
    _, said = stopped_in_the_middle.communicate(timeout=30)
    assert "Interrupted: nothing was registered as 'net'." in said
    assert tn.registered() == []
    assert files(home() / "registry" / "models") == []
    assert list((home() / "registry" / "drafts").iterdir()) == []


def test_a_folder_without_a_row_is_no_version_and_gives_way(fresh):
    model = tn.register("net.onnx", "net")
    orphan = model.folder.parent / "2"  # as of a process killed between its rename and its row
    orphan.mkdir()
    (orphan / "half").write_text("")
    assert [model.version for model in tn.registered("net")] == [1]
    assert files(tn.register("net.onnx", "net").folder) == ["net.onnx"]


def test_a_file_that_cannot_be_written_whole_is_told_and_nothing_is_registered(fresh):
    Path("net.onnx").write_bytes(bytes(4 << 20))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    code = "import tritonnb as tn; tn.register('net.onnx', 'net')"
    process = begin(code, preexec_fn=limit)
    _, said = process.communicate(timeout=30)
    assert "HomeError: 'net' could not be registered: File too large" in said
    assert "MB are free in" in said
    assert tn.registered() == []
    assert list((home() / "registry" / "drafts").iterdir()) == []


def test_a_damaged_registry_is_told_by_its_path(fresh):
    (home() / "registry").mkdir(parents=True)
    (home() / "registry" / "registry.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(HomeError, match=r"registry\.sqlite cannot be used: file is not a database"):
        tn.registered()


def test_a_registry_of_a_later_release_is_left_alone(fresh):
    tn.register("net.onnx", "net")
    with sqlite3.connect(home() / "registry" / "registry.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(HomeError, match="written by a later release"):
        tn.registered()


# What is shown --------------------------------------------------------------------------------------------------------


def test_both_names_are_shown_and_what_changes_from_run_to_run_is_left_out(fresh, monkeypatch):
    model = tn.register("models", "articles", tags={"task": "qa"}, description="<b>", framework="Multi")
    assert repr(model) == (
        "Registered model 'articles:1'\n"
        "  Registered name  articles\n"
        "  Version          1\n"
        "  Triton's models  square\n"
        "  Framework        Multi\n"
        "  Tags             task=qa\n"
        "  Description      <b>\n"
        f"  Size             {model.size / 1e3:.1f} kB"
    )
    title, columns, row = repr(tn.registered()).splitlines()
    assert title == "1 registered model"
    assert columns.split("  ")[1:3] == ["Registered as", "Triton's models"]
    assert row.split()[:2] == ["articles:1", "square"]
    for shown in (model, tn.registered()):
        assert "&lt;b&gt;" in shown._repr_html_()
        assert model.sha256[:12] not in repr(shown) + shown._repr_html_()
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    assert model.sha256[:12] in repr(tn.registered())
    assert str(model.path) in repr(model)


def test_an_empty_registry_says_so(fresh):
    assert repr(tn.registered()) == "No registered model."
    assert "No registered model." in tn.registered()._repr_html_()


# In a spec ------------------------------------------------------------------------------------------------------------


def test_a_spec_names_registered_models_and_keeps_the_names_as_yaml(fresh):
    spec = Spec.from_yaml("models: {a: net:1, b: {path: net:latest, max_batch_size: 8}}\nrepository: [articles:2]")
    assert [str(source.path) for source in spec.models.values()] == ["net:1", "net:latest"]
    assert [str(path) for path in spec.repository] == ["articles:2"]
    assert Spec.from_yaml(spec.to_yaml()) == spec
    assert Spec.from_options(models="net:1").name == "net"


def test_a_file_of_such_a_name_wins_over_a_registered_model(fresh):
    (fresh / "net:1").mkdir()
    assert Spec.from_options(models="net:1").repository == (fresh / "net:1",)


# Served ---------------------------------------------------------------------------------------------------------------


@pytest.mark.requires("engine")
def test_a_registered_model_is_deployed_by_its_name_and_not_deleted_while_it_is(name):
    first = tn.register("models", name, sample_input={"x": X})
    with tn.deploy(name, engine="embedded") as dep:
        assert tn.deploy(first, engine="embedded") is dep, "the same model is the same deployment"
        np.testing.assert_array_equal(dep.infer("square", first.sample_input)["y"], X * X)
        assert repr(dep) == f"<Deployment '{name}': ready, embedded engine>\n  square: registered as {name}:1"
        with pytest.raises(DeploymentError, match=rf"no model '{name}'.\n.*registry; Triton serves it as 'square'"):
            dep.infer(name, {"x": X})
        with pytest.raises(
            RegistryError, match=rf"'{name}:1' is deployed: '{name}' serves it \(process {os.getpid()}\)"
        ):
            first.delete()
        second = tn.register("net.onnx", name)
        dep.update(models=f"{name}:latest")
        assert repr(dep).endswith(f"net: registered as {name}:2")
        assert [model.name for model in dep.models() if model.state == "READY"] == ["net"]
        first.delete()
        with pytest.raises(RegistryError, match="is deployed"):
            second.delete()
    second.delete()


@pytest.mark.requires("engine")
def test_several_registered_models_are_deployed_at_once_and_under_names_of_their_own(name):
    one, _ = tn.register("models", name), tn.register("net.onnx", f"{name}-b")
    cell = f"name: {name}\nengine: embedded\nmodels: {{a: {name}:1, b: {{path: {name}-b:latest, max_batch_size: 4}}}}"
    with tn.deploy(Spec.from_yaml(cell)) as dep:
        assert [model.name for model in dep.models()] == ["a", "b"]
        assert dep.config("b")["max_batch_size"] == 4
        assert f"path: {name}-b:1" in dep.spec.to_yaml(), "the version is settled when it is deployed"
        assert repr(dep).splitlines()[1:] == [f"  a: registered as {name}:1", f"  b: registered as {name}-b:1"]
        dep.restart()
        np.testing.assert_array_equal(dep.infer("b", {"x": X})["y"], X * X)
        dep.update(models=[one, f"{name}-b"], repository=None)
        assert {"net", "square"} <= {model.name for model in dep.models()}


def test_a_name_that_is_no_path_and_not_registered_is_told_with_the_nearest_of_both(fresh):
    tn.register("models", "articles")
    for asked, meant in (("artikles", "articles"), ("modells", "models")):
        with pytest.raises(RepositoryError, match=rf"no '{asked}' in .*, and no model is registered.*\n.*'{meant}'"):
            tn.deploy(asked)
    for version in ("2", "v1", "0"):
        with pytest.raises(RegistryError, match=rf"no version '{version}'.*\n.*registered versions: 1\."):
            tn.deploy(f"articles:{version}")


def test_several_models_cannot_be_served_under_one_name(fresh, square):
    Path("models/triton/more/1").mkdir(parents=True)
    Path("models/triton/more/1/model.onnx").write_bytes(square)
    tn.register("models", "two")
    with pytest.raises(RegistryError, match=r"'two:1' holds 2 models \(more, square\), and 'a' can be only one"):
        tn.deploy({"a": "two"}, name="demo")


def test_what_triton_cannot_serve_is_registered_and_says_so_when_deployed(fresh):
    Path("script").mkdir()
    Path("script/weights.bin").write_bytes(b"weights")
    model = tn.register("script", "script-model")
    assert "none that it could serve" in repr(model)
    with pytest.raises(RepositoryError, match="No model was found"):
        tn.deploy("script-model")


READER = """
import os
def init(): pass
def run(data): return open(os.path.join(os.environ["AZUREML_MODEL_DIR"], *data.split("/"))).read()
"""


@pytest.mark.requires("engine")
def test_what_triton_cannot_serve_is_there_for_an_entry_script(name):
    Path("weights.bin").write_text("weights")
    Path("score.py").write_text(READER)
    tn.register("weights.bin", f"{name}-files")
    tn.register("net.onnx", f"{name}-net")
    score = {"entry_script": "score.py", "port": 0}
    with tn.deploy(f"{name}-files", name=name, engine="embedded", score=score) as dep:
        assert dep.run("weights.bin") == "weights"
        dep.update(models=[f"{name}-files:1", f"{name}-net:1"])
        assert [model.name for model in dep.models()] == ["net"]
        assert dep.run(f"{name}-files/1/weights.bin") == "weights"


def test_the_registry_of_one_notebook_is_that_of_another(fresh):
    tn.register("net.onnx", "net", tags={"by": "one"})
    process = begin("import json, tritonnb as tn; print(json.dumps(dict(tn.registered('net')[0].tags)))")
    out, err = process.communicate(timeout=30)
    assert json.loads(out) == {"by": "one"}, err


def test_the_command_line_lists_what_is_registered(fresh, capsys):
    from tritonnb.cli import main

    tn.register("net.onnx", "net")
    tn.register("models", "articles")
    capsys.readouterr()
    assert main(["registered"]) == 0
    assert capsys.readouterr().out == f"{tn.registered()!r}\n"
    assert main(["registered", "net:1"]) == 0
    assert capsys.readouterr().out == f"{tn.registered('net')!r}\n"
    assert main(["registered", "nets"]) == 1
    assert "did you mean 'net'?" in capsys.readouterr().err
