"""The daemon of the tests keeps to itself and leaves nothing behind, however the session ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from docker_session import BASE
from dockerd import Dockerd

DOCKER0_BEFORE = Path("/sys/class/net/docker0").exists()

pytestmark = pytest.mark.requires("docker")

# A session that starts a daemon and a container in it, and is killed.
KILLED = """
import os, signal, sys
from contextlib import closing
from pathlib import Path
from dockerd import Dockerd
daemon = Dockerd(Path(sys.argv[1]))
daemon.start()
with closing(daemon.client()) as client:
    client.containers.run(sys.argv[2], ["sleep", "600"], detach=True, stop_signal="SIGKILL")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path, triton_image, docker_client):
    """Return the folder of a second daemon, which has the base image."""
    if reason := Dockerd.missing():
        pytest.skip(reason)
    daemon = Dockerd(tmp_path / "docker")
    daemon.start()
    try:
        with contextlib.closing(daemon.client()) as client:
            client.images.load(docker_client.images.get(BASE).save(named=True))
    finally:
        daemon.stop()
    return tmp_path / "docker"


def test_a_second_one_comes_and_goes_with_its_containers_and_does_not_touch_the_first(folder, docker_client):
    daemon = Dockerd(folder)
    daemon.start()
    with contextlib.closing(daemon.client()) as client:
        container = client.containers.run(BASE, ["sleep", "600"], detach=True)
        container.reload()
        sleeping = psutil.Process(container.attrs["State"]["Pid"])
        assert {what.partition(" ")[0] for what in daemon.left()} >= {"process", "mount", "bridge", "folder"}
    daemon.stop()
    assert daemon.left() == set()
    assert not sleeping.is_running()
    assert docker_client.ping()
    assert Path("/sys/class/net/docker0").exists() == DOCKER0_BEFORE


def test_its_folder_is_one_sessions_at_a_time_and_what_a_killed_session_left_is_taken_away(folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / "plugins")}
    subprocess.run([sys.executable, "-c", KILLED, folder, BASE], env=environment, check=False)
    killed, daemon = Dockerd(folder), Dockerd(folder)
    assert any(what.startswith("process") for what in killed.left())
    daemon.start()
    try:
        with pytest.raises(RuntimeError, match="another test session uses"):
            killed.start()
        with contextlib.closing(daemon.client()) as client:
            assert [container.status for container in client.containers.list(all=True)] == ["exited"]
    finally:
        daemon.stop()
    assert daemon.left() == set()


def test_a_daemon_that_was_killed_runs_again_and_knows_its_containers(folder):
    daemon = Dockerd(folder)
    daemon.start()
    try:
        with contextlib.closing(daemon.client()) as client:
            options = {"detach": True, "stop_signal": "SIGKILL"}
            before = client.containers.run(BASE, ["sleep", "600"], **options)
            daemon.kill()
            assert not daemon.answers()
            daemon.run()
            assert client.containers.get(before.id).status == "exited"
            container = client.containers.run(BASE, ["sleep", "600"], **options)
            container.reload()
            sleeping = psutil.Process(container.attrs["State"]["Pid"])
        daemon.kill()
    finally:
        daemon.stop()
    assert daemon.left() == set()
    assert not sleeping.is_running() or sleeping.status() == psutil.STATUS_ZOMBIE
