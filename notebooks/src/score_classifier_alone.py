"""Entry script: a picture's bytes come in, what is in it goes out. The model is inside; no Triton is asked."""

import onnxruntime
from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from PIL import UnidentifiedImageError
from pictures import answer, model_folder, pixels, read_labels


def init():
    """Run once in each worker: each loads the model for itself."""
    global session, labels
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the workers share the cores
    session = onnxruntime.InferenceSession(model_folder() / "1" / "model.onnx", options)
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
    [scores] = session.run(["fc6_1"], {"data_0": x})
    return AMLResponse(answer(scores, labels), 200)
