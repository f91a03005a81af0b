"""What both classifier scripts do before and after the model. It lies beside them, so they can import it."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

MODEL = "efficientnet_lite0"


def model_folder():
    """Return the model's folder below AZUREML_MODEL_DIR, the folder of what was registered or deployed."""
    return Path(os.environ["AZUREML_MODEL_DIR"], "models", "triton", MODEL)


def read_labels():
    """Return the 1000 labels, which lie beside the model."""
    return (model_folder() / "labels.txt").read_text().splitlines()


def pixels(content):
    """Return a picture's bytes as the model wants them: float32 [1, 3, 224, 224], -1 to 1."""
    picture = Image.open(io.BytesIO(content)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    return (np.asarray(picture, np.float32) / 128 - 1).transpose(2, 0, 1)[np.newaxis]


def answer(scores, labels):
    """Return the best label with its number, as in "285 : Egyptian cat"."""
    best = int(scores.argmax())
    return f"{best} : {labels[best]}"
