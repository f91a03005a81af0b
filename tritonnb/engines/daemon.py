"""Reaching the Docker daemon, and saying in words why it cannot be reached.

The daemon must run on this machine, because it mounts the models from this machine's folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tritonnb.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

SYSTEM_SOCKETS = (Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"))
KNOCK_S = 3
ANSWER_S = 60  # a loaded daemon may take long to create a container
OTHERWISE = "or take the embedded engine (`engine: embedded`, `--engine embedded`)."


@dataclass(frozen=True)
class Address:
    """Where a daemon is.

    Parameters
    ----------
    url
        ``unix:///path`` or ``tcp://host:port``.
    source
        What named it: ``DOCKER_HOST``, a context, or nothing (the socket that is there).
    """

    url: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.url} ({self.source})" if self.source else self.url


def address() -> Address | None:
    """Return where a daemon is to be sought, as the ``docker`` command does; None where nothing points to one.

    DOCKER_HOST comes first, then the command's context, then the sockets of Docker, of rootless Docker, of Docker
    Desktop and of Podman. Imports and asks nothing: `engine: auto` must cost nothing without Docker.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return Address(host, "DOCKER_HOST")
    if (context := _context()) and (endpoint := _endpoint(context)):
        return Address(endpoint, f"context {context!r}")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    docker, podman = SYSTEM_SOCKETS
    sockets = (
        docker,
        Path(runtime, "docker.sock"),
        Path.home() / ".docker/run/docker.sock",
        Path(runtime, "podman/podman.sock"),
        podman,
    )
    for door in sockets:
        with contextlib.suppress(OSError):
            if door.is_socket():
                return Address(f"unix://{door}")
    return None


def _context() -> str:
    """Return the name of the ``docker`` command's context where it is not the default one."""
    name = os.environ.get("DOCKER_CONTEXT", "")
    if not name:
        with contextlib.suppress(OSError, ValueError):
            name = json.loads((_settings() / "config.json").read_text()).get("currentContext", "")
    return "" if name == "default" else name


def _endpoint(context: str) -> str:
    for meta in (_settings() / "contexts" / "meta").glob("*/meta.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            told = json.loads(meta.read_text())
            if told["Name"] == context:
                return str(told["Endpoints"]["docker"]["Host"])
    return ""


def _settings() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


@contextlib.contextmanager
def docker_client(at: Address | None = None) -> Iterator[DockerClient]:
    """Give a client of the daemon, closed at the end.

    Parameters
    ----------
    at
        Where the daemon is; else it is sought.

    Raises
    ------
    EngineError
        There is none, it does not answer, or it is on another machine; says what was tried and the way out.
    """
    at = at or address()
    if at is None:
        raise EngineError(
            "There is no Docker daemon here: DOCKER_HOST is not set, and there is no socket of Docker or Podman.",
            hint=_way_out() or f"install and start Docker (docs.docker.com/engine/install), {OTHERWISE}",
        )
    _check_here(at)
    _knock(at)
    from docker import DockerClient  # noqa: PLC0415  (takes 60 ms, and only where a daemon is)
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        client = DockerClient(base_url=at.url, version="auto", timeout=ANSWER_S)
    except DockerException as error:
        raise EngineError(
            f"What listens at {at} does not answer as Docker does: {_innermost(error)}.",
            hint=f"look at the daemon (`docker info`), {OTHERWISE}",
        ) from error
    with contextlib.closing(client):
        yield client


def _check_here(at: Address) -> None:
    parts = urlsplit(at.url)
    if parts.scheme == "unix":
        return
    if parts.scheme in {"tcp", "http"} and parts.hostname in {"127.0.0.1", "localhost", "::1"}:
        return
    raise EngineError(
        f"The Docker daemon at {at} is not this machine's: it cannot mount models from this machine's folders.",
        hint="run the notebook on that machine, set DOCKER_HOST to a daemon's socket of this one, " + OTHERWISE,
    )


def _knock(at: Address) -> None:
    """Connect once by hand: Docker's client wraps the operating system's own error four times over."""
    parts = urlsplit(at.url)
    start = f"start it (`sudo systemctl start docker`), set DOCKER_HOST to where it listens, {OTHERWISE}"
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(KNOCK_S)
                door.connect(parts.path)
        else:
            socket.create_connection((parts.hostname or "", parts.port or 2375), KNOCK_S).close()
    except PermissionError as error:
        if inside_container():
            join = f"start its container with the socket's group (`--group-add $(stat -c %g {parts.path})`)"
        else:
            join = "add yourself to its group (`sudo usermod -aG docker $USER`) and log in again"
        raise EngineError(
            f"Permission denied on the Docker daemon's socket {at}.", hint=f"{join}, {OTHERWISE}"
        ) from error
    except OSError as error:
        raise EngineError(
            f"The Docker daemon does not answer at {at}: {error.strerror or error}.", hint=_way_out() or start
        ) from error


def _way_out() -> str:
    """Return the way out for a notebook that is not simply a process of this machine's user, or an empty text."""
    hub = "JUPYTERHUB_USER" in os.environ
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return f"this notebook runs in a pod of a Kubernetes cluster, where there is no Docker: {OTHERWISE[3:]}"
    if inside_container():
        where = "a container of JupyterHub: whoever runs the hub can" if hub else "a container itself:"
        return (
            f"this notebook runs in {where} mount the machine's /var/run/docker.sock into it, and TRITONNB_HOME under "
            f"the path that it has on the machine, and share the machine's network (`--network=host`), {OTHERWISE}"
        )
    if hub:
        return f"this notebook runs under JupyterHub: whoever runs the hub can give you access to Docker, {OTHERWISE}"
    return ""


def inside_container() -> bool:
    """Tell whether this process runs in a container."""
    pod = "KUBERNETES_SERVICE_HOST" in os.environ  # its runtimes leave no file
    return pod or Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _innermost(error: BaseException) -> str:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error).rstrip(".") or type(error).__name__
