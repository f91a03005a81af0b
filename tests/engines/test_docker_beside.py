"""A notebook that runs in a container itself, beside the server that it asks the machine's daemon for.

The container is given this machine's programs and this Python, so that it is this machine in all but what makes it a
container: its root, its processes and, where it is not shared, its network.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from docker.types import Mount
from docker_session import BASE, DOCKER

import tritonnb

pytestmark = pytest.mark.requires("engine", "docker")

NOTEBOOK = """
import sys
import numpy as np
import tritonnb as tn
try:
    with tn.deploy("/models", name="beside", engine="docker", server={"image": sys.argv[1]}) as deployment:
        print(deployment.infer("square", {"x": np.full((1, 4), 3, np.float32)})["y"])
except tn.TritonNbError as error:
    print(error)
"""


@pytest.fixture
def in_container(docker_client, triton_image, repository, tmp_path):
    """Run a notebook's code in a container with the daemon's socket, and return what it printed."""

    def run(home: str, **options) -> str:
        (tmp_path / "home").mkdir()
        socket = DOCKER.host.removeprefix("unix://")
        same = {"/usr", sys.prefix, sys.base_prefix, str(Path(tritonnb.__file__).parent.parent)}
        mounts = [Mount(path, path, type="bind", read_only=True) for path in same]
        mounts += [Mount(path, path, type="bind") for path in (socket, str(tmp_path / "home"))]
        mounts += [Mount("/models", str(repository), type="bind", read_only=True)]
        variables = {
            "DOCKER_HOST": DOCKER.host,
            "TRITONNB_HOME": home,
            "PYTHONPATH": str(Path(tritonnb.__file__).parent.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRITONNB_NONINTERACTIVE": "1",
        }
        command = [sys.executable, "-c", NOTEBOOK, triton_image]
        told = docker_client.containers.run(
            BASE, command, mounts=mounts, environment=variables, stderr=True, remove=True, **options
        )
        assert not [c.name for c in docker_client.containers.list(all=True) if c.name.startswith("tritonnb-beside")]
        return told.decode()

    return run


def test_with_the_daemons_socket_its_home_at_the_same_path_and_its_network_it_serves(in_container, tmp_path):
    assert in_container(str(tmp_path / "home"), network_mode="host") == "[[9. 9. 9. 9.]]\n"


def test_a_home_that_the_daemon_does_not_see_is_told_with_the_way_out(in_container):
    told = in_container("/home-of-its-own", network_mode="host")
    assert "does not find this notebook's folder: this notebook runs in a container, and the daemon beside it" in told
    assert "mount TRITONNB_HOME into the notebook's container under the path that it has on the machine" in told


def test_a_network_of_its_own_is_told_with_the_way_out(in_container, tmp_path):
    told = in_container(str(tmp_path / "home"))
    assert "cannot be reached from this notebook: Connection refused" in told
    assert "start the notebook's container with `--network=host`" in told
