"""Entry script: a text and a question come in, the answer goes out. Words are found here, the model is on Triton.

It was written for bidaf-9.onnx and knows nothing of the model but its inputs and outputs.
"""

import json
import os
import re

import numpy as np
import tritonclient.http
from nltk import word_tokenize
from tritonclient.utils import triton_to_np_dtype

MODEL = "bidaf-shaped"
LETTERS = 16


def init():
    """Run once in each worker. What the model takes is asked of Triton."""
    global triton, headers, inputs
    triton = tritonclient.http.InferenceServerClient(os.environ["TRITON_URL"])
    # What Triton asks for where the deployment has auth: true.
    headers = {"Authorization": os.environ.get("TRITON_AUTHORIZATION", "")}
    inputs = triton.get_model_metadata(MODEL, headers=headers)["inputs"]


def tokenize(text):
    """Return the words of a text. With preserve_line nltk needs no data of its own; sentences are then ours to find."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return [word for sentence in sentences for word in word_tokenize(sentence, preserve_line=True)]


def tensors(words):
    """Return words in lower case, [n, 1], and their characters as they were written, [n, 1, 1, 16]."""
    letters = [[*word[:LETTERS], *[""] * (LETTERS - len(word))] for word in words]
    lower = np.array([[word.lower()] for word in words], dtype=np.object_)
    return lower, np.array(letters, dtype=np.object_).reshape(-1, 1, 1, LETTERS)


def run(data):
    """Answer {"context": ..., "query": ...}; data is the request's JSON as text."""
    asked = json.loads(data)
    context, query = tokenize(asked["context"]), tokenize(asked["query"])
    if not context or not query:
        return {"answer": ""}
    values = dict(zip(("context_word", "context_char"), tensors(context)))
    values |= zip(("query_word", "query_char"), tensors(query))

    sent = []
    for meta in inputs:
        value = values[meta["name"]].astype(triton_to_np_dtype(meta["datatype"]))
        tensor = tritonclient.http.InferInput(meta["name"], value.shape, meta["datatype"])
        tensor.set_data_from_numpy(value, binary_data=False)
        sent.append(tensor)
    result = triton.infer(MODEL, sent, model_version="1", request_id="0", headers=headers)
    start, end = (int(result.as_numpy(name)[0]) for name in ("start_pos", "end_pos"))
    return {"answer": " ".join(context[start : end + 1]), "start": start, "end": end}
