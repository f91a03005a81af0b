"""Sample models where Triton looks for them: the folders of a model repository."""

from __future__ import annotations

from pathlib import Path

from tritonnb.errors import RepositoryError, SpecError, nearest
from tritonnb.samples.answerer import ANSWERER_NAME, question_answerer
from tritonnb.samples.cached import sha256, write
from tritonnb.samples.classifier import MODEL_NAME, imagenet_classifier

_MODELS = {MODEL_NAME: imagenet_classifier, ANSWERER_NAME: question_answerer}


def lay_out(folder: str | Path = "models", model: str = MODEL_NAME) -> Path:
    """Lay a sample model out as a Triton model repository, as Azure ML's samples do.

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
    model
        Which: :data:`MODEL_NAME` (``"efficientnet_lite0"``) or :data:`ANSWERER_NAME` (``"bidaf-shaped"``).

    Returns
    -------
    Path
        The model's file. Where the same file is there already, it is not touched.

    Raises
    ------
    SpecError
        No sample model has this name.
    RepositoryError
        Another file is in that place, or the folder cannot be written.
    TritonNbError
        As :func:`imagenet_classifier`.
    """
    if model not in _MODELS:
        raise SpecError(
            f"there is no sample model {model!r}; there are {', '.join(_MODELS)}.", hint=nearest(model, _MODELS)
        )
    content = _MODELS[model]().read_bytes()
    path = Path(folder) / "triton" / model / "1" / "model.onnx"
    try:
        if path.exists():
            if sha256(path.read_bytes()) == sha256(content):
                return path
            raise RepositoryError(
                f"{path} is there already, and is not the sample model.",
                hint="move it away, or choose another folder.",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        # A copy, never a hard link: what is done to the user's file must not reach the cache.
        write(path, content)
    except OSError as error:
        raise RepositoryError(
            f"the sample model could not be laid out at {path}: {error.strerror or error}.",
            hint="choose another folder.",
        ) from error
    return path
