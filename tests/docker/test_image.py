"""The CPU image is small, serves what the embedded engine serves, and needs neither root nor a writable disk."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import io
import json
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from docker.types import Mount

from tritonnb.engines.cpu_image import DEFAULT_TAG, build, build_image
from tritonnb.engines.cpu_image.context import without_symbols
from tritonnb.environments import engine_environment
from tritonnb.errors import EngineError
from tritonnb.foreign import image_setup

pytestmark = pytest.mark.requires("engine", "docker")

PYTHON_MODEL = """
import os
import numpy as np
import triton_python_backend_utils as pb_utils
{imports}

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 4]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [1, 4]}})
        config.add_output({{"name": "user", "data_type": "TYPE_INT64", "dims": [1]}})
        return config

    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x").as_numpy()
        outputs = pb_utils.Tensor("y", 2 * x), pb_utils.Tensor("user", np.array([os.getuid()]))
        return [pb_utils.InferenceResponse(list(outputs))]
"""


@pytest.fixture
def repository(tmp_path, square):
    for path, content in {
        "square/1/model.onnx": square,
        "twice/1/model.py": PYTHON_MODEL.format(imports="").encode(),
    }.items():
        file = tmp_path / "models" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    tmp_path.chmod(0o755)  # pytest's own folders are for their user alone
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    return tmp_path / "models"


@contextlib.contextmanager
def serving(client, image, models, **options):
    """Run the image as NVIDIA's is run, with nothing but what it needs, and give its address once it is ready."""
    container = client.containers.run(
        image, ["tritonserver", "--model-repository=/models"], detach=True, read_only=True, tmpfs={"/tmp": ""},
        cap_drop=["ALL"], security_opt=["no-new-privileges"], shm_size="256m", network_mode="bridge",
        mounts=[Mount("/models", str(models), type="bind", read_only=True)],
        ports={"8000/tcp": ("127.0.0.1", None)}, **options,
    )  # fmt: skip
    try:
        container.reload()
        url = f"http://127.0.0.1:{container.ports['8000/tcp'][0]['HostPort']}"
        deadline = time.monotonic() + 60
        while not is_ready(url):
            container.reload()
            assert container.status == "running", container.logs().decode()
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.05)
        yield url
    finally:
        container.remove(force=True, v=True)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def infer(url: str, model: str) -> dict[str, list]:
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    with urllib.request.urlopen(f"{url}/v2/models/{model}/infer", json.dumps({"inputs": [x]}).encode()) as answer:
        return {output["name"]: output["data"] for output in json.load(answer)["outputs"]}


def test_it_is_smaller_than_400_mb(docker_client, triton_image):
    assert docker_client.images.get(triton_image).attrs["Size"] < 400e6


@pytest.mark.parametrize("user", [None, "12345:12345"], ids=["the image's own user", "any other user"])
def test_it_serves_onnx_and_python_models_without_root_and_without_a_writable_disk(
    docker_client, triton_image, repository, user
):
    with serving(docker_client, triton_image, repository, user=user) as url:
        assert infer(url, "square") == {"y": [1, 4, 9, 16]}
        assert infer(url, "twice") == {"y": [2, 4, 6, 8], "user": [int(user.partition(":")[0]) if user else 1000]}


def test_it_says_which_release_it_is_and_keeps_nvidias_conventions(docker_client, triton_image):
    config = docker_client.images.get(triton_image).attrs["Config"]
    assert config["Labels"]["tritonnb.triton.release"] == "24.10"
    assert config["Labels"]["tritonnb.triton.version"] == "2.51.0"
    assert config["Labels"]["org.opencontainers.image.base.name"] == "python:3.11-slim-bookworm"
    assert config["Entrypoint"] is None
    assert config["User"] == "1000:1000"
    assert set(config["ExposedPorts"]) == {"8000/tcp", "8001/tcp", "8002/tcp"}
    assert config["Cmd"] == ["tritonserver", "--model-repository=/models"]


def test_it_holds_the_packages_of_the_engine_in_the_same_versions(docker_client, triton_image):
    listing = (
        "import importlib.metadata, json, uvicorn, tritonclient.http, onnxruntime\n"
        "print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))"
    )
    told = docker_client.containers.run(triton_image, ["python3", "-c", listing], remove=True)
    engine = {
        d.name: d.version for d in importlib.metadata.distributions(path=[str(engine_environment().site_packages)])
    }
    served = json.loads(told)
    assert set(engine) - set(served) == {"nvidia-pytriton", "pip", "setuptools"} & set(engine)
    assert {name: served[name] for name in served if name in engine}.items() <= engine.items()


def test_a_second_build_of_the_same_inputs_builds_nothing(triton_image):
    told = []
    first, second = build_image(), build_image(report=lambda *words: told.append(words))
    assert first == second
    assert first.tag == triton_image == DEFAULT_TAG
    assert (first.release, first.id[:7]) == ("24.10", "sha256:")
    assert told == []


def unnamed(client) -> set[str]:
    return {image.id for image in client.images.list(filters={"dangling": True})}


@pytest.fixture
def packages(tmp_path):
    """Return two wheels of a package, versions 1 and 2."""
    wheels = []
    for version in ("1", "2"):
        info = f"rulebook-{version}.dist-info"
        wheels.append(tmp_path / f"rulebook-{version}-py3-none-any.whl")
        with zipfile.ZipFile(wheels[-1], "w") as wheel:
            wheel.writestr("rulebook.py", f"FACTOR = {version}\n")
            wheel.writestr(
                f"{info}/METADATA",
                f"Metadata-Version: 2.1\nName: rulebook\nVersion: {version}\nRequires-Dist: numpy>=1.20\n",
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return [str(wheel) for wheel in wheels]


def test_further_packages_make_an_image_of_another_name_and_what_a_build_replaces_is_removed(
    docker_client, triton_image, repository, packages, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    fractions = []
    first = build_image(pip=packages[:1], report=lambda _text, done: fractions.append(done))
    try:
        assert first.tag.startswith(f"{DEFAULT_TAG}-")
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert first.size - docker_client.images.get(triton_image).attrs["Size"] < 1e6  # numpy is not there once more
        (repository / "twice/1/model.py").write_text(PYTHON_MODEL.format(imports="import rulebook"))
        with serving(docker_client, first.tag, repository) as url:
            assert infer(url, "twice")["y"] == [2, 4, 6, 8]

        second = build_image(first.tag, pip=packages[1:])
        assert second.id != first.id
        with pytest.raises(ImageNotFound):
            docker_client.images.get(first.id)
    finally:
        docker_client.images.remove(first.tag)


def test_a_package_that_cannot_be_had_is_told_with_pips_reason(triton_image, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EngineError, match="requirement no-such-package") as caught:
        build_image(pip=["no-such-package"])
    assert "numpy must stay at 1.26" in caught.value.hint


def test_a_base_that_cannot_be_pulled_is_told_with_the_way_out(triton_image):
    with pytest.raises(EngineError, match=r"base image 127\.0\.0\.1:1/python:3 is not there.*refused") as caught:
        build_image("tritonnb-test/never:1", base="127.0.0.1:1/python:3")
    assert "--base" in caught.value.hint


def test_a_base_without_python_is_told_and_leaves_no_container(triton_image, docker_client):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    docker_client.api.import_image_from_data(content.getvalue(), "tritonnb-test/empty", "1")
    before = unnamed(docker_client)
    try:
        with pytest.raises(EngineError, match='"python3": executable file not found') as caught:
            build_image("tritonnb-test/never:1", base="tritonnb-test/empty:1")
        assert "--base python:3.11-slim-bookworm" in caught.value.hint
        assert docker_client.containers.list(all=True) == []
    finally:
        for image in unnamed(docker_client) - before:  # Docker keeps the steps that went well
            docker_client.images.remove(image)
        docker_client.images.remove("tritonnb-test/empty:1")


def test_a_base_with_another_python_is_told(monkeypatch, tmp_path):
    (tmp_path / "python-version").write_text("3.99")
    monkeypatch.setattr(image_setup, "FILES", tmp_path)
    with pytest.raises(SystemExit, match=r"The base image has Python 3\.\d+, .* for 3\.99"):
        image_setup.fit_out()


def test_a_disk_without_room_is_told_with_the_way_out(triton_image, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "write_context", full)
    with pytest.raises(EngineError, match="No space left on device") as caught:
        build_image("tritonnb-test/never:1")
    assert "make room" in caught.value.hint


def test_no_daemon_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineError, match="does not answer"):
        build_image()


def test_only_what_is_never_loaded_is_cut_off():
    environment = engine_environment()
    library = next(environment.site_packages.glob("rapidjson*.so")).read_bytes()
    cut = without_symbols(library)
    assert len(cut) < len(library) / 2
    assert without_symbols(cut) == cut
    assert without_symbols(b"#!/bin/sh\n") == b"#!/bin/sh\n"
    assert Path(environment.tritonserver).stat().st_size > 10e6  # the engine's own files stay as they are
