"""``AZUREML_MODEL_DIR``: the article's paths below it are there, whatever was deployed."""

from __future__ import annotations

import pytest

import tritonnb as tn
from tritonnb.registry import pinned
from tritonnb.score.model_folder import model_folder
from tritonnb.spec import Spec


@pytest.fixture
def models(tmp_path, square, monkeypatch):
    """The article's folder, and a home of its own."""
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "home"))
    file = tmp_path / "prefix" / "models" / "triton" / "square" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(square)
    return tmp_path / "prefix" / "models"


def folder_of(tmp_path, **options):
    spec = pinned(Spec.from_options(**options))
    return model_folder(spec, tmp_path / "run", tmp_path / "tier")


def test_of_a_path_it_is_the_folder_in_which_that_lies(tmp_path, models):
    folder = folder_of(tmp_path, models=str(models))

    assert folder == models.parent
    assert (folder / "models/triton/square/1/model.onnx").is_file()


def test_of_one_registered_model_it_is_its_version_s_folder(tmp_path, models):
    model = tn.register(models, "qa")

    folder = folder_of(tmp_path, models="qa:1")

    assert folder == model.folder
    assert folder.parts[-2:] == ("qa", "1")
    assert (folder / "models/triton/square/1/model.onnx").is_file()


def test_of_several_registered_models_name_and_version_follow(tmp_path, models):
    tn.register(models, "qa")
    tn.register(models, "eyes")

    folder = folder_of(tmp_path, models=["qa:1", "eyes:1"])

    assert (folder / "qa/1/models/triton/square/1/model.onnx").is_file()
    assert (folder / "eyes/1/models").is_dir()


def test_what_lies_in_several_folders_is_brought_together(tmp_path, models):
    tn.register(models, "qa")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "labels.txt").write_text("a\n")

    for _ in range(2):
        folder = folder_of(tmp_path, models=["qa:1", str(models), str(tmp_path / "other" / "labels.txt")])

    assert (folder / "qa/1/models/triton/square/1/model.onnx").is_file()
    assert (folder / "models/triton/square/1/model.onnx").is_file()
    assert (folder / "labels.txt").read_text() == "a\n"


def test_of_models_in_memory_it_is_the_server_s_own_folder(tmp_path):
    assert folder_of(tmp_path, name="demo") == tmp_path / "run"
