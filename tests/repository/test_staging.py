import errno
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonnb.errors import ModelConfigError, RepositoryError
from tritonnb.repository import Cell, find_models, in_memory, link_or_copy, models_of, pbtxt, stage
from tritonnb.spec import Spec

LARGE = b"w" * (2 << 20)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "staged"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return all below a folder: the content of files, None for folders."""
    return {
        str(entry.relative_to(folder)): entry.read_bytes() if entry.is_file() else None
        for entry in sorted(folder.rglob("*"))
    }


def test_a_single_file_is_staged_as_version_1(make, target, square):
    staged = stage(find_models(make("net.onnx") / "net.onnx"), target)

    assert (staged.models, staged.problems) == (("net",), {})
    assert tree(target) == {"net": None, "net/1": None, "net/1/model.onnx": square}


def test_a_model_in_memory_is_staged_as_version_1(target, square):
    stage([in_memory(square, "net")], target)

    assert tree(target) == {"net": None, "net/1": None, "net/1/model.onnx": square}


def test_a_model_directory_is_staged_whole_without_clutter(make, target, square):
    root = make("net/1/model.py", "net/1/lib/words.txt", "net/labels.txt", "net/config.pbtxt", "net/2/")
    make("net/.ipynb_checkpoints/x.py", "net/1/__pycache__/m.pyc", "net/1/model.py~", "net/1/lib/.DS_Store")

    stage(find_models(root), target)

    assert sorted(tree(target)) == [
        "net",
        "net/1",
        "net/1/lib",
        "net/1/lib/words.txt",
        "net/1/model.py",
        "net/2",
        "net/config.pbtxt",
        "net/labels.txt",
    ]


@pytest.mark.parametrize("layout", ["models/triton", "models"])
def test_the_articles_layout_is_staged_as_a_plain_repository(make, target, layout):
    root = make("models/triton/a/1/model.onnx", "models/triton/b/1/model.py", root="project")

    assert stage(find_models(root / layout), target).models == ("a", "b")
    assert (target / "a/1/model.onnx").is_file()
    assert (target / "b/1/model.py").is_file()


def test_an_ensemble_gets_the_empty_version_folder_that_triton_wants(make, target):
    root = make("e/config.pbtxt", text='platform: "ensemble"\nensemble_scheduling { step [ ] }')

    stage(find_models(root / "e"), target)

    assert (target / "e/1").is_dir()


def test_external_data_comes_with_its_file(tmp_path, target):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1024]) for name in "xy")
    weights = numpy_helper.from_array(np.ones((1, 1024), np.float32), "a")
    graph = helper.make_graph([helper.make_node("Add", ["x", "a"], ["y"])], "add", [x], [y], [weights])
    (tmp_path / "nets").mkdir()
    file = tmp_path / "nets/net.onnx"
    onnx.save_model(helper.make_model(graph), file, save_as_external_data=True, location="net.onnx.data")

    stage(find_models(file), target)

    loaded = onnx.load_model(target / "net/1/model.onnx")
    assert numpy_helper.to_array(loaded.graph.initializer[0]).sum() == 1024


def test_missing_external_data_is_left_to_the_server_to_report(tmp_path, target):
    weights = numpy_helper.from_array(np.ones(8, np.float32), "a")
    onnx.external_data_helper.set_external_data(weights, "gone.data")
    graph = helper.make_graph([], "none", [], [], [weights])
    (tmp_path / "net.onnx").write_bytes(helper.make_model(graph).SerializeToString())

    assert stage(find_models(tmp_path / "net.onnx"), target).models == ("net",)


def test_large_files_are_linked_and_small_ones_copied(make, target):
    root = make("net/1/model.py")
    (root / "net/1/weights.bin").write_bytes(LARGE)

    stage(find_models(root), target)

    assert (target / "net/1/weights.bin").samefile(root / "net/1/weights.bin")
    assert not (target / "net/1/model.py").samefile(root / "net/1/model.py")


def test_large_files_are_copied_where_no_link_can_be_made(make, target, monkeypatch):
    def other_file_system(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    root = make("net/1/model.py")
    (root / "net/1/weights.bin").write_bytes(LARGE)
    monkeypatch.setattr(os, "link", other_file_system)

    stage(find_models(root), target)
    first = (target / "net/1/weights.bin").stat()
    stage(find_models(root), target)

    assert (target / "net/1/weights.bin").read_bytes() == LARGE
    assert not (target / "net/1/weights.bin").samefile(root / "net/1/weights.bin")
    assert (target / "net/1/weights.bin").stat().st_ino == first.st_ino  # not copied again


def test_staging_again_changes_nothing_where_nothing_changed(make, target):
    root = make("net/1/model.py", "net/config.pbtxt")
    (root / "net/1/weights.bin").write_bytes(LARGE)
    configs = {"net": {"max_batch_size": 4}}
    stage(find_models(root), target, configs)
    before = {path: path.stat() for path in target.rglob("*")}

    stage(find_models(root), target, configs)

    assert {path: path.stat().st_ino for path in before} == {path: stat.st_ino for path, stat in before.items()}


def test_what_changed_at_the_source_is_replaced_and_what_is_gone_disappears(make, target):
    root = make("a/1/model.py", "a/1/old.txt", "a/2/model.py", "a/3/model.py", "b/1/model.py", text="old")
    (root / "a/1/weights.bin").write_bytes(LARGE)
    stage(find_models(root), target)

    (root / "a/1/model.py").write_text("new")
    (root / "a/1/weights.bin").unlink()
    (root / "a/1/weights.bin").write_bytes(LARGE[::-1] + b"!")
    (root / "a/1/old.txt").unlink()
    (root / "a/1/old.txt").mkdir()
    (root / "a/1/old.txt/inside").touch()
    for gone in ("a/2", "b/1"):
        (root / gone / "model.py").unlink()
        (root / gone).rmdir()
    staged = stage(find_models(root), target)

    assert staged.models == ("a",)
    assert tree(target / "a") == tree(root / "a")
    assert not (target / "b").exists()


def test_a_folder_that_becomes_a_file_is_replaced(make, target):
    root = make("a/1/model.py", "a/1/x/y")
    stage(find_models(root), target)
    (root / "a/1/x/y").unlink()
    (root / "a/1/x").rmdir()
    (root / "a/1/x").write_text("file")

    stage(find_models(root), target)

    assert tree(target / "a") == tree(root / "a")


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_the_users_files_are_never_changed(make, target, size):
    config = 'max_batch_size: 2 default_model_filename: "' + "m" * size + '.py"'
    root = make("net/1/model.py")
    (root / "net/config.pbtxt").write_text(config)
    models = find_models(root)
    stage(models, target)

    stage(models, target, {"net": {"max_batch_size": 4}})
    staged_config = pbtxt.read(target / "net/config.pbtxt")
    stage(models, target)

    assert staged_config.max_batch_size == 4
    assert (root / "net/config.pbtxt").read_text() == config
    assert (target / "net/config.pbtxt").read_text() == config


def test_triton_keys_of_a_spec_make_a_config_for_a_model_without_one(make, target):
    stage(find_models(make("net.onnx")), target, {"net": {"max_batch_size": 4, "dynamic_batching": {}}})

    config = pbtxt.read(target / "net/config.pbtxt")
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (4, True)


def test_a_model_renamed_by_the_spec_is_renamed_in_its_config_too(make, target):
    root = make("net/1/model.py", "net/config.pbtxt", text='name: "net"')

    staged = stage(models_of(Spec.from_options(models={"reader": root / "net"})), target)

    assert staged.models == ("reader",)
    assert pbtxt.read(target / "reader/config.pbtxt").name == "reader"


def test_a_bad_model_does_not_keep_the_good_ones_from_being_staged(make, target):
    root = make("good/1/model.onnx", "named/1/model.onnx", "typo/1/model.onnx", "v/v1/model.onnx", "wrong/1/model.onnx")
    (root / "typo/config.pbtxt").write_text("max_batch_size: 8\nbackendd: 'x'")
    (root / "named/config.pbtxt").write_text("name: 'other'")

    staged = stage(find_models(root), target, {"wrong": {"max_batchsize": 1}, "goood": {"max_batch_size": 1}})

    assert staged.models == ("good",)
    assert {name: type(problem) for name, problem in staged.problems.items()} == {
        "goood": RepositoryError,
        "named": ModelConfigError,
        "typo": ModelConfigError,
        "v": RepositoryError,
        "wrong": ModelConfigError,
    }
    assert f"{root / 'typo/config.pbtxt'}, line 2, column 1: " in staged.problems["typo"].message
    assert "did you mean 'max_batch_size'" in staged.problems["wrong"].message
    assert "names it 'other'" in staged.problems["named"].message
    assert staged.problems["goood"].hint == "did you mean 'good'?"


def test_a_typo_leaves_what_was_staged_before(make, target):
    root = make("net/1/model.py", "net/config.pbtxt")
    stage(find_models(root), target)
    before = tree(target)
    (root / "net/config.pbtxt").write_text("nonsense")

    staged = stage(find_models(root), target)

    assert staged.models == ()
    assert tree(target) == before


def test_links_in_the_source_are_followed_and_none_is_staged(make, tmp_path, target):
    root = make("net/1/model.py", text="code")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/words.txt").write_text("words")
    (tmp_path / "shared/weights.bin").write_bytes(LARGE)
    (root / "net/1/lib").symlink_to(tmp_path / "shared")
    (root / "net/1/weights.bin").symlink_to("lib/weights.bin")

    stage(find_models(root), target)

    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert (target / "net/1/lib/words.txt").read_text() == "words"
    assert (target / "net/1/weights.bin").samefile(tmp_path / "shared/weights.bin")


@pytest.mark.parametrize(
    ("link", "message"), [("..", "is a link to a folder that it lies in"), ("gone", "is a link to nothing")]
)
def test_a_link_that_leads_nowhere_is_a_problem_of_its_model_alone(make, target, link, message):
    root = make("bad/1/model.py", "good/1/model.py")
    (root / "bad/1/link").symlink_to(link)

    staged = stage(find_models(root), target)

    assert staged.models == ("good",)
    assert message in staged.problems["bad"].message


def test_a_pipe_among_the_files_is_a_problem_and_is_not_waited_for(make, target):
    root = make("net/1/model.py")
    os.mkfifo(root / "net/1/pipe")

    assert "is no regular file" in stage(find_models(root), target).problems["net"].message


def test_a_source_that_went_away_is_a_problem_by_name(make, target):
    root = make("net.onnx")
    models = find_models(root)
    (root / "net.onnx").unlink()

    assert "Model 'net' could not be staged" in stage(models, target).problems["net"].message


def test_a_target_that_cannot_be_written_is_an_error(make, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(RepositoryError, match="cannot be written"):
        stage(find_models(make("net.onnx")), tmp_path / "file" / "staged")


def test_linking_follows_links_replaces_and_makes_the_folders_on_the_way(tmp_path):
    (tmp_path / "real").write_text("content")
    (tmp_path / "link").symlink_to("real")
    target = tmp_path / "a/b/target"

    link_or_copy(tmp_path / "link", target)
    link_or_copy(tmp_path / "link", target)

    assert not target.is_symlink()
    assert target.samefile(tmp_path / "real")
    assert [entry.name for entry in target.parent.iterdir()] == ["target"]


def test_a_cells_code_is_a_model_of_its_own(make, target):
    staged = stage(find_models(make("net.onnx")), target, cells={"mine": Cell("code")})

    assert staged.models == ("net", "mine")
    assert tree(target / "mine") == {"1": None, "1/model.py": b"code", "config.pbtxt": b'backend: "python"\n'}


def test_a_cells_code_takes_the_place_of_the_latest_versions_whatever_backend_its_config_names(make, target):
    root = make("net/2/model.onnx", "net/10/model.onnx")
    (root / "net/config.pbtxt").write_text('platform: "onnxruntime_onnx" max_batch_size: 4')
    before = tree(root)

    stage(find_models(root), target, cells={"net": Cell("code")})

    assert sorted(tree(target / "net")) == ["10", "10/model.onnx", "10/model.py", "2", "2/model.onnx", "config.pbtxt"]
    config = pbtxt.read(target / "net/config.pbtxt")
    assert (config.backend, config.platform, config.max_batch_size) == ("python", "", 4)
    assert tree(root) == before


def test_a_cells_config_takes_the_place_of_the_sources_and_of_the_specs_keys_word_by_word(make, target):
    root = make("net/1/model.onnx", "net/config.pbtxt", text="max_batch_size: 2 dynamic_batching { }")

    stage(find_models(root), target, {"net": {"max_batch_size": 4}}, {"net": Cell(config="max_batch_size: 8  # eight")})

    assert (target / "net/config.pbtxt").read_text() == "max_batch_size: 8  # eight"


def test_a_cells_config_may_name_the_backend_of_a_cells_code(target):
    stage([], target, cells={"net": Cell("code", 'backend: "mine"')})

    assert pbtxt.read(target / "net/config.pbtxt").backend == "mine"


def test_a_cells_config_waits_for_its_model_unless_it_is_an_ensemble(target):
    waiting, ensemble = Cell(config="max_batch_size: 8"), Cell(config='platform: "ensemble" ensemble_scheduling { }')

    staged = stage([], target, cells={"net": waiting, "both": ensemble})

    assert (staged.models, staged.problems) == (("both",), {})
    assert sorted(tree(target)) == ["both", "both/1", "both/config.pbtxt"]


def test_a_cells_code_is_what_a_directory_without_a_model_file_lacked(make, target):
    root = make("net/config.pbtxt", "other/1/model.onnx", text="max_batch_size: 8")

    staged = stage(find_models(root), target, cells={"net": Cell("code")})

    assert (staged.models, staged.problems) == (("net", "other"), {})
    assert pbtxt.read(target / "net/config.pbtxt").max_batch_size == 8


def test_without_the_cell_the_source_is_staged_again(make, target):
    root = make("net/1/model.onnx")
    stage(find_models(root), target, cells={"net": Cell("code", "max_batch_size: 8")})

    stage(find_models(root), target)

    assert tree(target) == tree(root)
