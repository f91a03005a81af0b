"""Writing models, good and bad, into a repository."""

from __future__ import annotations

import pytest

PYTHON_MODEL = """\
{top}
import os, time
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}})
        return config
    def initialize(self, args):
        {initialize}
    def execute(self, requests):
        {execute}
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
                for r in requests]
"""


@pytest.fixture(scope="session")
def python_model():
    """Return a function that gives the text of a Python model that answers what it got, with lines put in."""

    def text(top="", initialize="pass", execute="pass"):
        return PYTHON_MODEL.format(top=top, initialize=initialize, execute=execute)

    return text


@pytest.fixture(scope="session")
def write_model(square, python_model):
    """Return a function that writes a model's files into a repository.

    The content of a file may be bytes, text, None for the good ONNX model of these tests, or a mapping of lines
    that are put into the good Python model.
    """

    def write(repository, name, files, config=None):
        folder = repository / name
        folder.mkdir(parents=True, exist_ok=True)
        for place, given in files.items():
            content = square if given is None else python_model(**given) if isinstance(given, dict) else given
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content.encode() if isinstance(content, str) else content)
        if config is not None:
            (folder / "config.pbtxt").write_text(config)

    return write
