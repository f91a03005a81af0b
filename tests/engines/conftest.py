"""Repositories and deployments for the tests of the engines, served for real."""

from __future__ import annotations

import pytest

import tritonnb as tn


@pytest.fixture
def repository(tmp_path, square):
    """A Triton repository with one good model."""
    add(tmp_path / "models", "square", "model.onnx", square)
    return tmp_path / "models"


@pytest.fixture
def add_model(repository):
    """Add a model to the repository: a file of its version 1, and a config.pbtxt where one is given."""

    def add_to(name: str, file: str, content: str | bytes, config: str | None = None) -> None:
        add(repository, name, file, content, config)

    return add_to


def add(repository, name, file, content, config=None):
    folder = repository / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    if config is not None:
        (folder.parent / "config.pbtxt").write_text(config)


@pytest.fixture
def docker_deploy(triton_image):
    """Deploy with the Docker engine and the CPU image; whatever is left at the end is deleted."""
    made = []

    def deploy(source, name, **options):
        server = {"image": triton_image, **options.pop("server", {})}
        made.append(tn.deploy(source, name=name, engine="docker", server=server, **options))
        return made[-1]

    yield deploy
    for deployment in made:
        deployment.delete()
