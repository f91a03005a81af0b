"""``make compare-nvidia``, on the CPU image: it finds what is equal, and what is not."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("engine", "docker")

# One of each kind: all of them take half a minute.
MODELS = ["efficientnet_lite0", "types", "overridable", "controls", "zipmap"]
SCRIPT = Path(__file__).parent / "compare_nvidia.py"
BACKEND = "/opt/tritonserver/backends/onnxruntime/model.py"


def compare(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_our_own_image_serves_every_model_as_the_embedded_engine_does(triton_image):
    done = compare("--image", triton_image, *MODELS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 models are served the same." in done.stdout
    rows = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    assert all(rows[model] == ["equal"] * 4 for model in MODELS if model != "zipmap")
    assert rows["zipmap"] == ["equal", "-", "-", "-"]  # refused by both


@pytest.fixture
def other_image(docker_client, triton_image):
    """An image whose backend batches up to 5 by itself and gives floats doubled."""
    container = docker_client.containers.create(triton_image)
    try:
        archive, _ = container.get_archive(BACKEND)
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
            source = tar.extractfile("model.py").read()
        for old, new in {
            b"DEFAULT_MAX_BATCH_SIZE = 4": b"DEFAULT_MAX_BATCH_SIZE = 5",
            b"in zip(names, values,": b"in zip(names, [v * 2 if v.dtype.kind == 'f' else v for v in values],",
        }.items():
            assert old in source
            source = source.replace(old, new)
        changed = io.BytesIO()
        with tarfile.open(fileobj=changed, mode="w") as tar:
            info = tarfile.TarInfo("model.py")
            info.size, info.mode = len(source), 0o644
            tar.addfile(info, io.BytesIO(source))
        container.put_archive(BACKEND.rpartition("/")[0], changed.getvalue())
        image = container.commit("tritonnb/test-compare", "other")
    finally:
        container.remove(v=True)
    yield image.tags[0]
    docker_client.images.remove(image.tags[0])


def test_what_differs_is_shown_model_by_model_and_what_is_known_to_is_called_that(other_image):
    done = compare("--image", other_image, "types", "doubled", "scalar_string")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    assert rows["types"] == ["equal", "DIFFERS", "DIFFERS", "DIFFERS"]
    assert rows["doubled"] == ["equal", "equal", "equal", "known"]
    assert rows["scalar_string"] == ["equal"] * 4
    assert "types, config: max_batch_size: 4 here, 5 there" in done.stdout
    assert "types, answers: out_FP32: 1 of its largest value apart" in done.stdout
    assert "2 of 3 models are served the same or as known." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--image", "nvcr.io/nvidia/tritonserver:20.01-py3"],
            "is not on this machine; it would be pulled (9 to 16 GB",
        ),
        (["--image", "IMAGE", "tipes"], "did you mean 'types'"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_starts(triton_image, arguments, said):
    done = compare(*(triton_image if argument == "IMAGE" else argument for argument in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
