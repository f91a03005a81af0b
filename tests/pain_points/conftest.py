"""Writing models, good and bad, into a repository."""

from __future__ import annotations

import pytest
from python_models import python_model


@pytest.fixture(scope="session")
def write_model(square):
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
