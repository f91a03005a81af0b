"""Python models for the tests of several rooms."""

from __future__ import annotations

_ECHO = """\
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


def python_model(top: str = "", initialize: str = "pass", execute: str = "pass") -> str:
    """Return the source of a Python model that answers its input, with lines put in at three places."""
    return _ECHO.format(top=top, initialize=initialize, execute=execute)
