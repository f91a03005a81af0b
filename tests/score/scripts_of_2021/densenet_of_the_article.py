import io
import os

import numpy as np
from azureml.contrib.services.aml_request import AMLRequest, rawhttp  # noqa: F401  (the samples imported both)
from azureml.contrib.services.aml_response import AMLResponse
from model_utils import triton_infer, triton_init
from PIL import Image

MODEL = "efficientnet_lite0"


def init():
    global client, labels
    client = triton_init("localhost:8000")
    folder = os.path.join(os.environ["AZUREML_MODEL_DIR"], "models", "triton", MODEL)
    with open(os.path.join(folder, "labels.txt")) as file:
        labels = file.read().splitlines()


@rawhttp
def run(request):
    if request.method == "POST":
        picture = Image.open(io.BytesIO(request.get_data(False))).convert("RGB").resize((224, 224), Image.BILINEAR)
        scaled = (np.array(picture).astype(np.float32) / 128) - 1
        batch = np.stack([np.transpose(scaled, (2, 0, 1))])
        [scores] = triton_infer(client, MODEL, {"data_0": batch}, ["fc6_1"])
        best = np.argmax(scores)
        return AMLResponse(f"{best} : {labels[best]}", 200)
    return AMLResponse("bad request", 500)
