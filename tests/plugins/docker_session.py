"""Docker in a test session: a daemon, the CPU image in it, and fixtures for both.

The daemon that answers already is used; where none does, the session starts one of its own (dockerd.py) at the first
test that is marked ``requires("docker")``. Its images stay in tritonnb's home of the tests, so a second session with
the same home builds nothing. Such a test, or notebook, sees the daemon in DOCKER_HOST; others see what the machine has.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from dockerd import Dockerd

from tritonnb.engines.cpu_image import build_image
from tritonnb.engines.daemon import Address, address
from tritonnb.engines.daemon import docker_client as find_docker
from tritonnb.errors import EngineError

# What stands in for Python's slim image where nothing can be pulled: Debian's own Python, on as little.
BASE = "python:3.11-slim-bookworm"
# The other way to a merged /usr brings 47 MB of Perl.
NO_USRMERGE = (
    r"""printf 'Package: usrmerge\nPin: release *\nPin-Priority: -1\n' >"$1/etc/apt/preferences.d/usrmerge" """
)
STAND_IN = [
    "mmdebstrap", "--quiet", "--variant=essential",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--setup-hook={NO_USRMERGE}",
    "--include=usr-is-merged,python3,libpython3.11,libstdc++6",
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale", "info")),
    "bookworm",
]  # fmt: skip
CHANGES = ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["python3"]']
RECIPE = "tritonnb.test.recipe"


class SessionDocker:
    """The Docker that this session's tests use, had at the first need."""

    def __init__(self) -> None:
        self._own: Dockerd | None = None
        self._host = ""

    @functools.cache  # noqa: B019  (there is one, for as long as the session)
    def missing(self) -> str:
        """Return why there is no Docker for the tests, empty where there is."""
        if (at := address()) and _answers(at):
            self._host = at.url
            return ""
        if reason := Dockerd.missing():
            return reason
        own = Dockerd(Path(os.environ["TRITONNB_HOME"], "docker"))
        try:
            own.start()
        except RuntimeError as error:
            return str(error)
        self._own, self._host = own, own.host
        return ""

    @property
    def host(self) -> str:
        """The daemon's address."""
        return self._host

    @functools.cache  # noqa: B019
    def image(self) -> str:
        """Return the tag of the CPU image, built first where it is not there."""
        with contextlib.closing(docker.DockerClient(base_url=self.host, version="auto", timeout=60)) as client:
            if self._own:
                import_base(client, self._own.folder)
        return build_image().tag

    def left(self) -> set[str]:
        """Return the containers, volumes and networks that are there."""
        if not (self._own and self._own.answers()):
            return set()
        with contextlib.closing(self._own.client()) as client:
            networks = (network.name for network in client.networks.list())
            return (
                {f"container {container.name}" for container in client.containers.list(all=True)}
                | {f"volume {volume.name}" for volume in client.volumes.list()}
                | {f"network {name}" for name in networks if name not in {"bridge", "host", "none"}}
            )

    def stop(self) -> None:
        """Stop the daemon where it is the session's own."""
        if self._own:
            self._own.stop()
            self._own = None


DOCKER = SessionDocker()


def import_base(client: docker.DockerClient, folder: Path) -> None:
    """Import the stand-in for the base image where it is not there, or was made by another recipe."""
    recipe = hashlib.sha256("\0".join(STAND_IN + CHANGES).encode()).hexdigest()
    with contextlib.suppress(ImageNotFound):
        if client.images.get(BASE).labels.get(RECIPE) == recipe:
            return
    if not shutil.which("mmdebstrap"):
        pytest.fail("the base image for the tests is made by mmdebstrap (Debian: apt-get install mmdebstrap)")
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        root = Path(draft, "root.tar")
        made = subprocess.run([*STAND_IN, root], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.fail(f"the base image for the tests could not be made:\n{made.stderr[-2000:]}")
        repository, _, tag = BASE.partition(":")
        client.api.import_image(
            src=str(root), repository=repository, tag=tag, changes=[*CHANGES, f"LABEL {RECIPE}={recipe}"]
        )


def _answers(at: Address) -> bool:
    try:
        with find_docker(at) as client:
            return bool(client.ping())
    except (EngineError, DockerException):
        return False


def needs_docker(item: pytest.Item) -> bool:
    """Tell whether a test or a notebook's cell is marked ``requires("docker")``."""
    return any("docker" in mark.args for mark in item.iter_markers("requires"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    with pytest.MonkeyPatch.context() as patch:
        if needs_docker(item) and not DOCKER.missing():
            patch.setenv("DOCKER_HOST", DOCKER.host)
        return (yield)


def pytest_runtest_setup(item):
    if needs_docker(item) and item.path.suffix == ".ipynb":  # has no fixtures to ask for it
        DOCKER.image()


@pytest.hookimpl(tryfirst=True)  # before the home goes
def pytest_unconfigure():
    DOCKER.stop()


@pytest.fixture(scope="session")
def docker_client():
    """Return a client of the daemon; its test is marked ``requires("docker")``."""
    with contextlib.closing(docker.DockerClient(base_url=DOCKER.host, version="auto", timeout=60)) as client:
        yield client


@pytest.fixture(scope="session")
def triton_image(docker_client):
    """Return the tag of the CPU image; its test is marked ``requires("docker")``."""
    return DOCKER.image()
