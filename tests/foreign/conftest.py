"""The model repository that the tests of the onnxruntime backend serve."""

from __future__ import annotations

import pytest
from onnx_models import write_repository


@pytest.fixture(scope="session")
def onnx_repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_repository(folder)
    return folder
