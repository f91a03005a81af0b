"""Repositories for the tests of the handle, served for real."""

from __future__ import annotations

import pytest


@pytest.fixture
def repository(tmp_path, square):
    """A Triton repository with one good model."""
    folder = tmp_path / "models" / "square" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    return tmp_path / "models"


@pytest.fixture
def add_model(repository):
    """Add a model to the repository: a file of its version 1, and a config.pbtxt where one is given."""

    def add(name: str, file: str, content: str | bytes, config: str | None = None) -> None:
        folder = repository / name / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        if config is not None:
            (folder.parent / "config.pbtxt").write_text(config)

    return add
