"""Entry script: a picture's bytes come in, what is in it goes out. The model itself is served by Triton."""

import os

import numpy as np
import tritonclient.http
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from PIL import UnidentifiedImageError
from pictures import MODEL, answer, pixels, read_labels


def init():
    """Run once in each worker: what all requests share is made here."""
    global triton, headers, labels
    triton = tritonclient.http.InferenceServerClient(os.environ["TRITON_URL"])
    # What Triton asks for where the deployment has auth: true.
    headers = {"Authorization": os.environ.get("TRITON_AUTHORIZATION", "")}
    labels = read_labels()


@rawhttp
def run(request):
    """Answer one request; with @rawhttp it is the HTTP request itself, not JSON."""
    if request.method != "POST":
        return AMLResponse("send a picture with POST", 405)
    try:
        x = pixels(request.get_data())
    except UnidentifiedImageError:
        return AMLResponse("this is no picture", 400)
    data = tritonclient.http.InferInput("data_0", x.shape, "FP32")
    data.set_data_from_numpy(np.ascontiguousarray(x))
    scores = triton.infer(MODEL, [data], headers=headers).as_numpy("fc6_1")
    return AMLResponse(answer(scores, labels), 200)
