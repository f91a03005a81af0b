"""An image is found, pulled with one progress, and tells its release; a real registry and what it can do wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time

import pytest

from tritonnb.engines.images import Layers, local_image, pull
from tritonnb.errors import EngineError

pytestmark = pytest.mark.requires("engine", "docker", "docker-registry")


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


def test_a_pull_that_is_cut_off_is_told_and_taken_up_again(pushed, line, docker_client):
    pushed("triton:cut")
    name = f"{line.at}/triton:cut"
    line.cut = 1
    told = []
    image = pull(docker_client, name, lambda text, _: told.append(text))
    assert image.release == (25, 12)
    assert line.cut == 0
    assert any("was cut off" in text and "once more" in text for text in told), told


def test_a_tag_that_the_registry_has_not_is_told(registry, docker_client):
    with pytest.raises(EngineError, match=r"could not be pulled: manifest .*\n.*check its name and tag"):
        pull(docker_client, f"{registry[0]}/triton:99.99", lambda *_: None)


def test_before_gigabytes_are_pulled_their_size_the_room_and_the_way_out_are_told(docker_client):
    told = []
    with pytest.raises(EngineError, match="could not be pulled"):  # there is no such tag, nor may there be a network
        pull(docker_client, "nvcr.io/nvidia/tritonserver:00.00-py3", lambda text, _: told.append(text))
    assert re.search(r"\(9 to 16 GB(, \d+ GB free)?; Ctrl-C stops it, `tritonnb image build` makes a small", told[0])


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


def test_ctrl_c_breaks_a_pull_off_and_the_daemon_goes_no_further(pushed, line, docker_client):
    pushed("triton:slow")
    line.pause_s = 0.05  # so its 40 MB take half a minute
    told = []

    def interrupt():
        deadline = time.monotonic() + 20
        while line.carried < 3_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        told.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        pull(docker_client, f"{line.at}/triton:slow", lambda *_: None)
    assert time.monotonic() - told[0] < 2
    deadline = time.monotonic() + 10
    while not line.is_idle and time.monotonic() < deadline:
        time.sleep(0.05)
    assert line.is_idle
    assert local_image(docker_client, f"{line.at}/triton:slow") is None
    line.pause_s = 0
    assert pull(docker_client, f"{line.at}/triton:slow", lambda *_: None).release == (25, 12)


def test_ctrl_c_is_heard_while_a_registry_says_nothing(docker_client):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            pull(docker_client, f"127.0.0.1:{silent.getsockname()[1]}/triton:24.10", lambda *_: None)
        assert time.monotonic() - began < 5
