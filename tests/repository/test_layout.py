import os
from pathlib import Path

import onnx
import pytest

from tritonnb.errors import RepositoryError
from tritonnb.repository import find_models, in_memory, models_of
from tritonnb.repository.layout import is_clutter
from tritonnb.spec import Spec


def found(path):
    return [(model.name, model.versions, model.layout) for model in find_models(path)]


@pytest.mark.parametrize(
    ("files", "given", "expected"),
    [
        (["net.onnx"], "net.onnx", [("net", (1,), "file")]),
        (["My Net (2).onnx"], "My Net (2).onnx", [("My_Net_2", (1,), "file")]),
        (["model.onnx"], "model.onnx", [("model", (1,), "file")]),
        (["net/3/model.onnx"], "net/3/model.onnx", [("net", (1,), "file")]),
        (["net/model.onnx"], "net", [("net", (1,), "folder")]),
        (["files/resnet.onnx", "files/README"], "files", [("resnet", (1,), "folder")]),
        (["net.onnx/model.onnx", "net.onnx/weights"], "net.onnx", [("net", (1,), "folder")]),
        (["net/1/model.onnx/model.onnx"], "net/1/model.onnx", [("net", (1,), "folder")]),
        (["net/1/model.onnx/model.onnx", "net/1/model.onnx/w"], "net", [("net", (1,), "model")]),
        (["net/1/model.onnx", "net/12/model.onnx", "net/2/model.onnx"], "net", [("net", (1, 2, 12), "model")]),
        (["net/1/model.py", "net/assets/words.txt"], "net", [("net", (1,), "model")]),
        (["net/config.pbtxt", "net/1/"], "net", [("net", (1,), "model")]),
        (["a/1/model.onnx", "b/1/model.py"], "", [("a", (1,), "repository"), ("b", (1,), "repository")]),
        (["a/1/model.onnx", "c/model.onnx", "docs/x.md"], "", [("a", (1,), "repository"), ("c", (1,), "folder")]),
        (["triton/a/1/model.onnx", "triton/b/1/model.pt"], "", [("a", (1,), "triton"), ("b", (1,), "triton")]),
        (["triton/a/1/model.onnx"], "triton", [("a", (1,), "triton")]),
        (["a.onnx", "b.onnx"], "", [("a", (1,), "file"), ("b", (1,), "file")]),
    ],
)
def test_every_layout_that_people_have_is_found(make, files, given, expected):
    assert found(make(*files) / given) == expected


def test_a_found_model_names_the_file_or_folder_that_it_came_from(make):
    root = make("a/1/model.onnx", "b/model.onnx", "c.onnx")

    assert {model.source for model in find_models(root)} == {root / "a", root / "b/model.onnx", root / "c.onnx"}


def test_a_relative_path_starts_from_the_current_folder(make, monkeypatch):
    monkeypatch.chdir(make("net/1/model.onnx") / "net")

    assert [model.name for model in find_models(".")] == ["net"]


@pytest.mark.parametrize(
    "clutter",
    [
        ".ipynb_checkpoints/1/model.onnx",
        ".ipynb_checkpoints/net-checkpoint.onnx",
        ".git/HEAD",
        "__pycache__/x.onnx",
        "lost+found/",
        ".DS_Store",
        "net.onnx~",
        "#net.onnx#",
        ".net.onnx.swp",
        "net.bak/1/model.onnx",
    ],
)
def test_clutter_is_passed_over_everywhere(make, clutter):
    root = make("net/1/model.onnx", clutter, f"net/{clutter}", f"net/1/{clutter}")

    assert found(root) == [("net", (1,), "repository")]
    assert found(root / "net") == [("net", (1,), "model")]


def test_the_names_of_real_files_are_no_clutter():
    assert not any(map(is_clutter, ["model.onnx", "config.pbtxt", "labels.txt", "1", "model.onnx.data", "_private.py"]))


@pytest.mark.parametrize(
    "config", ["ensemble_scheduling { step [ ] }", 'name: "e"\nplatform: "ensemble"', "platform:'ensemble'"]
)
def test_an_ensemble_needs_no_version_folder(make, config):
    assert found(make("e/config.pbtxt", text=config) / "e") == [("e", (1,), "model")]


def test_a_missing_path_names_its_nearest_sibling(make):
    root = make("net.onnx")

    with pytest.raises(RepositoryError, match=r"no 'nett.onnx' in .*models") as caught:
        find_models(root / "nett.onnx")

    assert caught.value.hint == "did you mean 'net.onnx'?"


def test_a_missing_path_in_a_missing_folder_says_so(tmp_path):
    with pytest.raises(RepositoryError, match="not even its folder"):
        find_models(tmp_path / "nowhere" / "net.onnx")


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        (["a/"], "seen there: a/."),
        ([".hidden", "__pycache__/"], "seen there: nothing."),
        (["b.txt", "src/model.py"], "seen there: b.txt, src/."),
        ([f"{n}.txt" for n in range(10)], "7.txt and 2 more."),
    ],
)
def test_a_folder_without_models_says_what_was_seen_and_draws_the_right_layout(make, files, seen):
    with pytest.raises(RepositoryError) as caught:
        find_models(make(*files))

    assert caught.value.message.endswith(seen)
    assert "└── model.onnx" in caught.value.hint


def test_a_folder_above_a_repository_names_the_repository(make):
    root = make("models/net/1/model.onnx", root="project")

    with pytest.raises(RepositoryError, match="No model was found") as caught:
        find_models(root)

    assert caught.value.hint == f"there is 'net' further down: deploy {root / 'models'}."


@pytest.mark.parametrize("name", ["net.pt", "model.py", "models.zip"])
def test_a_single_file_that_is_no_onnx_file_is_an_error_with_the_right_layout(make, name):
    with pytest.raises(RepositoryError, match=f"{name} is no ONNX file") as caught:
        find_models(make(name) / name)

    assert "model.py" in caught.value.hint


def test_what_is_neither_file_nor_folder_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(RepositoryError, match="neither a file nor a folder"):
        find_models(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("version", "better"),
    [("v1", "1"), ("01", "1"), ("0", "1"), ("latest", "1"), ("v2.0", "2"), ("version-3", "3")],
)
def test_a_version_folder_that_triton_would_pass_over_is_an_error_with_the_right_name(make, version, better):
    root = make(f"net/{version}/model.onnx")

    with pytest.raises(RepositoryError, match=f"has a folder '{version}', which Triton would pass over") as caught:
        find_models(root / "net")

    assert caught.value.hint == f"rename it: {root / 'net' / better}/model.onnx."


def test_a_misnamed_version_beside_a_right_one_is_still_an_error(make):
    root = make("net/1/model.onnx", "net/v1/model.onnx")

    with pytest.raises(RepositoryError, match="folder 'v1'") as caught:
        find_models(root / "net")

    assert caught.value.hint == f"rename it: {root / 'net/2'}/model.onnx."


@pytest.mark.parametrize("beside", ["config.pbtxt", "1/model.onnx"])
@pytest.mark.parametrize("misnamed", ["first/model.onnx", "v1/weights.bin"])
def test_in_a_models_directory_the_name_or_a_model_file_tells_a_misnamed_version(make, beside, misnamed):
    with pytest.raises(RepositoryError, match="which Triton would pass over"):
        find_models(make(f"net/{beside}", f"net/{misnamed}") / "net")


def test_numbered_folders_of_other_things_are_no_model(make):
    assert found(make("net/1/model.onnx", "digits/1/one.png", "digits/01/x.png")) == [("net", (1,), "repository")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["net/1/"], "has no model file in version 1; seen there: nothing"),
        (["net/1/net.onnx"], "has no model file in version 1; seen there: net.onnx"),
        (["net/1/.ipynb_checkpoints/model.onnx"], "has no model file in version 1; seen there: nothing"),
        (["net/config.pbtxt", "net/model.onnx"], "has no version folder; seen in .*: config.pbtxt, model.onnx"),
    ],
)
def test_an_empty_model_is_an_error_that_draws_the_right_layout(make, files, message):
    with pytest.raises(RepositoryError, match=message) as caught:
        find_models(make(*files) / "net")

    assert "net/\n  └── 1/\n      └── model.onnx" in caught.value.hint


def test_a_bad_model_among_good_ones_carries_its_problem_and_does_not_hide_them(make):
    models = {model.name: model for model in find_models(make("good/1/model.onnx", "bad/v1/model.onnx"))}

    assert models["good"].problem is None
    assert "folder 'v1'" in models["bad"].problem.message


@pytest.mark.parametrize(
    "files",
    [
        ["net.onnx", "net/1/model.onnx"],
        ["net/1/model.onnx", "triton/net/1/model.onnx"],
        ["my net.onnx", "my_net.onnx"],
    ],
)
def test_two_models_of_one_name_are_an_error_that_names_both(make, files):
    with pytest.raises(RepositoryError, match="Two models are named") as caught:
        find_models(make(*files))

    assert all(file.removesuffix("/1/model.onnx") in caught.value.message for file in files)


def test_all_models_of_a_spec_are_found_under_its_names(make):
    root = make("repo/a/1/model.onnx", "repo/b/1/model.py", "net.onnx", "reader/1/model.py")
    spec = Spec.from_options(models={"c": "net.onnx", "d": "reader"}, repository="repo", base=root)

    assert {model.name: model.source for model in models_of(spec)} == {
        "a": root / "repo/a",
        "b": root / "repo/b",
        "c": root / "net.onnx",
        "d": root / "reader",
    }


def test_a_name_for_a_whole_repository_is_an_error(make):
    root = make("a/1/model.onnx", "b/1/model.py")

    with pytest.raises(RepositoryError, match=r"holds 2 models \(a, b\), and 'c' can be only one of them"):
        models_of(Spec.from_options(models={"c": root}))


def test_a_name_given_twice_in_a_spec_is_an_error(make):
    root = make("repo/a/1/model.onnx", "net.onnx")

    with pytest.raises(RepositoryError, match="Two models are named 'a'"):
        models_of(Spec.from_options(models={"a": "net.onnx"}, repository="repo", base=root))


def test_a_model_in_memory_is_taken_as_bytes_or_as_a_message(square):
    message = onnx.load_from_string(square)

    assert in_memory(square, "net") == in_memory(bytearray(square), "net")
    assert in_memory(message, "net").content == message.SerializeToString()
    assert in_memory(square, "net").source == Path()


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (b"", "net", "Model 'net' is empty"),
        (b"x", "a/b", "'a/b' is no name for a model"),
        (5, "net", "cannot be made of int"),
    ],
)
def test_a_model_in_memory_that_cannot_be_one_is_an_error(model, name, message):
    with pytest.raises(RepositoryError, match=message):
        in_memory(model, name)
