"""Podman's socket does what Docker's does, as far as a deployment needs it."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import docker
import numpy as np
import psutil
import pytest
from podman_service import Podman

import tritonnb as tn

pytestmark = pytest.mark.requires("engine", "docker", "podman")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def eventually(condition):
    deadline = time.monotonic() + 20
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def podman(triton_image, docker_client):
    """Run Podman's service with the CPU image in it; return a client of it."""
    with (
        Podman(Path(os.environ["TRITONNB_HOME"], "podman")) as service,
        closing(docker.DockerClient(base_url=service.host, version="auto", timeout=120)) as client,
    ):
        wanted = docker_client.images.get(triton_image)
        if wanted.id not in {image.id for image in client.images.list()}:
            client.images.load(wanted.save(named=True))
        yield client, service


@pytest.fixture(scope="module")
def deployment(podman, triton_image, square):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", podman[1].host)
        with tn.deploy(square, name="podman", engine="docker", server={"image": triton_image}) as deployment:
            yield deployment
    assert podman[0].containers.list(all=True) == []


def test_it_serves_and_is_seen_as_one_of_docker_s(deployment):
    assert deployment.state == "ready"
    np.testing.assert_array_equal(deployment.infer("podman", {"x": X})["y"], X * X)
    assert deployment._run.engine.memory_bytes() > 30e6
    assert eventually(lambda: "successfully loaded 'podman'" in deployment.get_logs())


def test_it_publishes_on_loopback_and_mounts_read_only(deployment, podman):
    told = podman[0].api.inspect_container(deployment._run.engine.container)
    assert {at["HostIp"] for each in told["NetworkSettings"]["Ports"].values() for at in each or ()} == {"127.0.0.1"}
    (models,) = (mount for mount in told["Mounts"] if mount["Destination"].endswith("/models"))
    assert not models["RW"]


def test_a_process_that_dies_is_noticed(deployment):
    models = str(deployment._run.folder / "models")
    (stub, *_) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if (line := process.info["cmdline"]) and "python_backend_stub" in line[0] and line[1].startswith(models)
    )
    stub.kill()
    assert eventually(lambda: deployment.state == "degraded")
    assert "of its" in deployment.models()[0].reason
