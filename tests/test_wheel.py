"""The built wheel, installed into an empty environment, holds all that is needed to deploy a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

DEPLOY = """
import json
import sys

import tritonnb as tn

with tn.deploy(sys.argv[1], name="wheel", engine="embedded") as dep:
    result = dep.infer("doubler", {"x": [[1.0, 2.0, 3.0]]})
    print(json.dumps({"from": tn.__file__, "y": result["y"].tolist(), "shown": dep.health()._repr_html_()}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the Python of an environment that holds the wheel and what it depends on, and nothing else."""
    environment = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel],
        check=True,
    )
    return python


@pytest.fixture
def doubler(tmp_path):
    """Return a single ONNX file: y = 2 x, float32 [N, 3]."""
    import onnx
    from onnx import TensorProto, helper

    shape = ["N", 3]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "doubler.onnx"
    onnx.save(model, path)
    return path


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = ROOT / "tritonnb"
    sources = {str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file()}
    sources = {source for source in sources if "__pycache__" not in source}
    assert sources <= set(zipfile.ZipFile(wheel).namelist())
    assert "tritonnb/engine-requirements.txt" in sources


def test_the_wheel_holds_the_licence_and_nothing_outside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"tritonnb"}


@pytest.mark.requires("engine")
def test_the_installed_wheel_deploys_a_model_and_infers(installed, doubler, tmp_path):
    elsewhere = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [installed, "-c", DEPLOY, doubler], cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert Path(answer["from"]).is_relative_to(installed.parent.parent)
    assert answer["y"] == [[2.0, 4.0, 6.0]]
    assert "doubler" in answer["shown"]
