import json
import os  # noqa: F401  (the changed line needs it)

import numpy as np
from model_utils import triton_infer, triton_init
from nltk import word_tokenize

MODEL = "bidaf-shaped"


def preprocess(text):
    tokens = word_tokenize(text, preserve_line=True)
    words = np.array([word.lower() for word in tokens], dtype=np.object_).reshape(-1, 1)
    letters = [[letter for letter in token][:16] for token in tokens]
    letters = [each + [""] * (16 - len(each)) for each in letters]
    return words, np.array(letters, dtype=np.object_).reshape(-1, 1, 1, 16)


def init():
    global client
    client = triton_init("localhost:8000")


def run(data):
    asked = json.loads(data)
    context_word, context_char = preprocess(asked["context"])
    query_word, query_char = preprocess(asked["query"])
    mapping = {
        "query_word": query_word,
        "query_char": query_char,
        "context_word": context_word,
        "context_char": context_char,
    }
    start, end = triton_infer(client, MODEL, mapping, ["start_pos", "end_pos"])
    return [word for word in context_word[start[0] : end[0] + 1].flatten()]
