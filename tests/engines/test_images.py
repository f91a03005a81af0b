"""An image is found, pulled with one progress, and tells its release; a real registry and what it can do wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from docker.errors import ImageNotFound

from tritonnb.engines.images import Layers, local_image, pull
from tritonnb.errors import EngineError

pytestmark = pytest.mark.requires("engine", "docker", "docker-registry")

REGISTRY = shutil.which("docker-registry")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Run Debian's docker-registry on loopback; return its address and its folder."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{listener.getsockname()[1]}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
        f"http: {{addr: {at}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([REGISTRY, "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        host, _, port = at.partition(":")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection((host, int(port)), 1).close()
                break
            time.sleep(0.05)
        yield at, folder
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def pushed(registry, docker_client, tmp_path):
    """Push an image of two layers that says to hold release 25.12, and forget it here."""
    names = []

    def push(name):
        full = f"{registry[0]}/{name}"
        for layer in ("first", "second"):
            (tmp_path / layer).write_bytes(os.urandom(20_000_000))
        (tmp_path / "Dockerfile").write_text(
            "FROM scratch\nCOPY first /first\nCOPY second /second\nLABEL tritonnb.triton.release=25.12\n"
        )
        docker_client.images.build(path=str(tmp_path), tag=full, rm=True)
        told = docker_client.api.push(full)
        assert "error" not in told, told
        docker_client.images.remove(full)
        names.append(full)
        return full

    yield push
    for name in names:
        with contextlib.suppress(ImageNotFound):
            docker_client.images.remove(name)


def test_an_image_is_pulled_with_one_progress_and_tells_its_release(pushed, docker_client):
    name = pushed("triton:whole")
    assert local_image(docker_client, name) is None
    told = []
    image = pull(docker_client, name, lambda text, fraction: told.append((text, fraction)))
    assert (image.name, image.release) == (name, (25, 12))
    assert "2 of 2 layers, 40 of 40 MB" in told[-1][0]
    fractions = [fraction for _, fraction in told if fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert local_image(docker_client, name) == image


def test_a_layer_that_arrives_damaged_is_told_and_can_be_pulled_again_once_it_is_whole(pushed, registry, docker_client):
    name = pushed("triton:damaged")
    blobs = registry[1].glob("docker/registry/v2/blobs/sha256/*/*/data")
    whole = {path: path.read_bytes() for path in blobs if path.stat().st_size > 10_000_000}
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(EngineError, match=f"image {name} could not be pulled"):
        pull(docker_client, name, lambda *_: None)
    for path, content in whole.items():
        path.write_bytes(content)
    assert pull(docker_client, name, lambda *_: None).release == (25, 12)


def test_a_tag_that_the_registry_has_not_is_told(registry, docker_client):
    with pytest.raises(EngineError, match=r"could not be pulled: manifest .*\n.*check its name and tag"):
        pull(docker_client, f"{registry[0]}/triton:99.99", lambda *_: None)


def test_a_registry_that_cannot_be_reached_is_told(docker_client):
    with pytest.raises(EngineError, match=r"could not be pulled: .*refused.*\n.*registry cannot be reached"):
        pull(docker_client, "127.0.0.1:9/triton:24.10", lambda *_: None)


def test_without_a_name_the_newest_image_of_triton_that_is_there_is_taken(docker_client, triton_image):
    image = local_image(docker_client, None)
    assert image is not None
    assert image.release == (24, 10)


# The daemon's events, for what a pull of layers that are all there does not show -----------------------------------


def test_layers_add_up_to_one_progress_that_never_goes_back():
    layers = Layers()
    events = [
        {"status": "Pulling from triton", "id": "24.10"},
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Pulling fs layer", "id": "b"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 5_000_000, "total": 10_000_000}},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 1_000_000, "total": 30_000_000}},
        {"status": "Download complete", "id": "a"},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 5_000_000, "total": 10_000_000}},
        {"status": "Pull complete", "id": "a"},
        {"status": "Download complete", "id": "b"},
        {"status": "Pull complete", "id": "b"},
        {"status": "Status: Downloaded newer image"},
    ]
    seen = []
    for event in events:
        layers.take(event)
        seen.append(layers.fraction)
    assert seen[0] is None
    assert seen[1:] == sorted(seen[1:])
    assert seen[-1] == 1.0
    assert str(layers) == "2 of 2 layers, 40 of 40 MB so far"


def test_ctrl_c_breaks_a_pull_off(docker_client):
    """A registry that accepts and never answers stands for a slow one."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            pull(docker_client, f"127.0.0.1:{silent.getsockname()[1]}/triton:24.10", lambda *_: None)
        assert time.monotonic() - began < 5
