"""Docker: the daemon, Triton's images and NVIDIA's toolkit."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tritonnb.doctor.programs import last_line
from tritonnb.doctor.report import DOCKER, IMAGES, TOOLKIT, Finding
from tritonnb.engines import daemon as engine_daemon

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
TIMEOUT_S = 3


@dataclass(frozen=True)
class Daemon:
    """What the Docker daemon told.

    Parameters
    ----------
    address
        Where it was sought.
    error
        Why it told nothing; None where it answers.
    version
        Its own.
    images
        The tags of the images that are Triton's by name.
    runtimes
        The container runtimes that it knows.
    """

    address: str
    error: Exception | None = None
    version: str = ""
    images: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()


def ask_docker() -> Daemon:
    """Ask the daemon that the Docker engine takes."""
    address = DEFAULT_ADDRESS
    try:
        from docker import DockerClient  # noqa: PLC0415  (heavy)
        from docker.utils import kwargs_from_env  # noqa: PLC0415

        settings: dict[str, Any] = {**kwargs_from_env()}
        if "base_url" not in settings and (at := engine_daemon.address()):
            settings["base_url"] = at.url
        address = settings.setdefault("base_url", DEFAULT_ADDRESS)
        _knock(address)
        with closing(DockerClient(version="auto", timeout=TIMEOUT_S, **settings)) as client:
            tags = [tag for image in client.api.images() for tag in image["RepoTags"] or ()]
            return Daemon(
                address,
                version=client.version()["Version"],
                images=tuple(sorted(tag for tag in tags if "triton" in tag)),
                runtimes=tuple(client.info().get("Runtimes") or ()),
            )
    except Exception as error:  # noqa: BLE001  (sockets, TLS, HTTP, JSON: whatever it is becomes a finding)
        return Daemon(address, error)


def _knock(address: str) -> None:
    """Raise the operating system's own error where nothing listens: Docker's client wraps it four times over."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(TIMEOUT_S)
            door.connect("/" + address.removeprefix("unix://").lstrip("/"))
    elif parts.scheme in {"tcp", "http", "https"}:
        socket.create_connection((parts.hostname or "", parts.port or 2375), TIMEOUT_S).close()


def docker_daemon(daemon: Daemon) -> Finding:
    """Say whether Docker's daemon answers, and where it was sought."""
    if daemon.error is None:
        return Finding(DOCKER, "ok", "answers", detail=f"{daemon.version} at {daemon.address}")
    named = bool(os.environ.get("DOCKER_HOST"))
    tried = f"tried {daemon.address}{' (DOCKER_HOST)' if named else ''}"
    start = "start it (`sudo systemctl start docker`), or set DOCKER_HOST to where it listens."
    match daemon.error:
        case PermissionError():
            mend = "run `sudo usermod -aG docker $USER` and log in again."
            return Finding(DOCKER, "broken", "permission denied on its socket", mend, tried)
        case FileNotFoundError() if not (named or shutil.which("docker")):
            mend = "only the Docker engine needs it: install it as docs.docker.com/engine/install says."
            return Finding(DOCKER, "missing", "not installed", mend, tried)
        case FileNotFoundError():
            return Finding(DOCKER, "missing", "not running", start, tried)
        case ConnectionError() | TimeoutError() | socket.gaierror():
            return Finding(DOCKER, "missing", "nothing listens at its address", start, f"{tried}: {daemon.error}")
        case _:
            mend = "restart it (`sudo systemctl restart docker`), or set DOCKER_HOST to where Docker listens."
            reason = last_line(str(daemon.error))
            return Finding(DOCKER, "broken", "does not answer as Docker does", mend, f"{tried}: {reason}")


def triton_images(daemon: Daemon) -> Finding:
    """Say which images of Triton the daemon has."""
    if daemon.error:
        return Finding(IMAGES, "unknown", "no Docker daemon to ask", "see to the Docker daemon first.")
    if not daemon.images:
        mend = "`tritonnb image build` makes a small one for CPUs; NVIDIA's is pulled at the first deploy (over 9 GB)."
        return Finding(IMAGES, "missing", "none", mend)
    return Finding(IMAGES, "ok", "there", detail=", ".join(daemon.images))


def container_toolkit(daemon: Daemon) -> Finding:
    """Say whether containers can be given an NVIDIA GPU."""
    if "nvidia" in daemon.runtimes:
        return Finding(TOOLKIT, "ok", "known to Docker")
    # Docker gives out GPUs where it finds this program on its PATH, without a runtime of that name too.
    if shutil.which("nvidia-container-runtime-hook"):
        return Finding(TOOLKIT, "ok", "installed")
    if shutil.which("nvidia-ctk"):
        mend = "run `sudo nvidia-ctk runtime configure --runtime=docker` and `sudo systemctl restart docker`."
        return Finding(TOOLKIT, "broken", "installed, but not known to Docker", mend)
    mend = "only GPUs in containers need it: install the package nvidia-container-toolkit."
    return Finding(TOOLKIT, "missing", "not installed", mend)
