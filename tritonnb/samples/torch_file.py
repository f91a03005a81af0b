"""Read the tensors of a PyTorch file of the legacy format (before torch 1.6) with numpy alone.

Such a file is four pickles (magic number, protocol version, system information, the state dict), a fifth
with the storages' keys, and then each storage in that order: its number of elements as int64, and the raw
elements. The state dict holds no data: each tensor names a storage, an offset, a shape and strides
(torch/serialization.py, ``_legacy_save``).
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonnb.errors import TritonNbError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def over(self, elements: NDArray[Any]) -> NDArray[Any]:
        """Return the tensor as a view of its storage's elements; numpy refuses one that reaches beyond."""
        size = elements.itemsize
        strides = tuple(stride * size for stride in self.strides)
        return np.ndarray(self.shape, elements.dtype, elements.data, self.offset * size, strides)


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a legacy PyTorch file by name.

    Only what a state dict of float32 and int64 tensors needs is unpickled: nothing else is ever called.

    Parameters
    ----------
    path
        The ``.pth`` file.

    Returns
    -------
    dict
        Read-only arrays, float32 or int64, in the file's order.

    Raises
    ------
    TritonNbError
        The file cannot be read, is damaged, or holds something else.
    """
    try:
        return _tensors(path.read_bytes())
    except Exception as error:  # damaged pickles raise nearly every exception there is
        reason = error.strerror if isinstance(error, OSError) else error
        raise TritonNbError(
            f"{path} cannot be read as a PyTorch state dict of the legacy format: {reason}.",
            hint="the file may be damaged: install again the package that it came with.",
        ) from error


def _tensors(content: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(content)
    if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
        raise ValueError("it does not begin with PyTorch's magic number")
    if not _load(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    described: dict[str, _Tensor] = _load(file)
    by_key = {tensor.storage.key: tensor.storage for tensor in described.values()}
    storages: dict[str, NDArray[Any]] = {}
    for key in _load(file):
        storage = by_key[key]
        size = int.from_bytes(file.read(8), "little", signed=True)
        if size != storage.size:
            raise ValueError(f"a storage of {storage.size} elements has {size}")
        storages[key] = np.frombuffer(content, storage.dtype, size, file.tell())
        file.seek(size * storage.dtype.itemsize, io.SEEK_CUR)
    return {name: tensor.over(storages[tensor.storage.key]) for name, tensor in described.items()}


def _load(file: io.BytesIO) -> Any:
    return _Unpickler(file).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _describe_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ValueError(f"it asks for {module}.{name}, which no plain state dict needs")

    def persistent_load(self, pid: Any) -> _Storage:
        _kind, dtype, key, _device, size, view = pid
        if view is not None:
            raise ValueError("it holds a view of a storage")
        return _Storage(key, dtype, size)


def _describe_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_autograd: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)
