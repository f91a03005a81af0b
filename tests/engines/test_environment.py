"""A Python model sees the spec's packages beside those of its engine, and the spec's variables, on every engine."""

from __future__ import annotations

import json
import os

import pytest
from wheels import write_wheel

import tritonnb as tn
from tritonnb.environments import engine_environment
from tritonnb.errors import EngineError, EnvironmentBuildError

ENGINES = [
    pytest.param("embedded", marks=pytest.mark.requires("engine")),
    pytest.param("docker", marks=pytest.mark.requires("engine", "docker")),
]
TELLER = """
import json, os, sys
import numpy as np
import tnbextra, numpy, uvicorn, flatbuffers, faulthandler
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        told = {
            "extra": tnbextra.VERSION, "numpy": numpy.__version__, "flatbuffers": flatbuffers.VERSION,
            "variables": {name: os.environ.get(name) for name in ("TNB_A", "TNB_B", "PATH")},
            "startup": faulthandler.is_enabled(),
        }
        text = np.array([json.dumps(told).encode()], object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("told", text)]) for _ in requests]
"""
CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [1] }
output { name: "told" data_type: TYPE_STRING dims: [1] }
"""


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Return a folder of wheels where pip finds packages, and nowhere else."""
    engine_environment()  # while there is all else
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    write_wheel(tmp_path / "wheels", "tnbextra")
    return tmp_path / "wheels"


@pytest.fixture
def teller(tmp_path):
    """Return a repository with a model that tells what it sees."""
    version = tmp_path / "models" / "teller" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(TELLER)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    return tmp_path / "models"


@pytest.fixture(params=ENGINES)
def engine(request):
    """The options that choose an engine."""
    server = {"image": request.getfixturevalue("triton_image")} if request.param == "docker" else {}
    return {"engine": request.param, "server": server}


def test_a_python_model_sees_the_packages_and_the_variables(wheels, teller, engine):
    # The engine has a flatbuffers of its own, which nobody needs in that very version.
    write_wheel(wheels, "flatbuffers", "99.0")
    environment = {
        "pip": ["tnbextra", "flatbuffers>=99"],
        "variables": {"TNB_A": "one", "TNB_B": "two", "PATH": "/tnb"},
    }
    engine["server"]["env"] = {"TNB_B": "the server's"}
    with tn.deploy(teller, name="environment", environment=environment, **engine) as dep:
        told = json.loads(dep.infer("teller", {"x": [1.0]})["told"].item())
    path = told["variables"].pop("PATH").split(":")
    assert "/overlays/" in path[0]
    assert "/tnb" in path[1:-1]
    assert told == {
        "extra": "1.0",
        "numpy": "1.26.4",
        "flatbuffers": "99.0",
        "variables": {"TNB_A": "one", "TNB_B": "the server's"},
        "startup": True,
    }


def test_a_package_that_fails_leaves_nothing_running(teller, engine, wheels):
    with pytest.raises(EnvironmentBuildError, match="there is no package 'tnbnone'"):
        tn.deploy(teller, name="environment", environment={"pip": ["tnbnone"]}, **engine)
    assert [dep.name for dep in tn.deployments()] == []


@pytest.mark.requires("engine", "docker")
def test_an_image_without_python_is_said_so(teller, docker_client, wheels):
    """An image of nothing at all."""
    import io
    import tarfile

    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    docker_client.api.import_image_from_data(empty.getvalue(), repository="tritonnb-test-empty", tag="1")
    try:
        with pytest.raises(EngineError, match="has no Python that extra packages could be for"):
            tn.deploy(
                teller,
                name="environment",
                engine="docker",
                server={"image": "tritonnb-test-empty:1"},
                environment={"pip": ["tnbextra"]},
            )
    finally:
        docker_client.images.remove("tritonnb-test-empty:1")
