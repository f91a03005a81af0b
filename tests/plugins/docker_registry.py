"""A real registry on loopback, Debian's docker-registry, and a line to it that can be slow or be cut.

For tests that are marked ``requires("docker", "docker-registry")``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
from docker.errors import ImageNotFound

PIECE = 64 * 1024


class Line:
    """A way to a server of this machine, byte by byte, under a port of its own.

    Parameters
    ----------
    to
        The server's port.
    """

    def __init__(self, to: int) -> None:
        self.pause_s = 0.0  # between two pieces of what the server sends
        self.cut = 0  # how many of the next answers end in the middle
        self.carried = 0  # bytes of the server, over all connections
        self._to = to
        self._open = 0
        self._counting = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected."""
        return self._open == 0

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with self._counting:
            self._open += 1
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._to)) as server:
            threading.Thread(target=self._carry_requests, args=(client, server), daemon=True).start()
            while piece := server.recv(PIECE):
                if cut := bool(self.cut and b"application/vnd" in piece):  # a manifest
                    self.cut -= 1
                client.sendall(piece[:-10] if cut else piece)
                self.carried += len(piece)
                if cut:
                    break
                time.sleep(self.pause_s)
            client.shutdown(socket.SHUT_RDWR)  # closed alone it would stay: the other thread reads from it
        with self._counting:
            self._open -= 1

    @staticmethod
    def _carry_requests(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE):
                server.sendall(piece)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """Run a registry; return its address and its folder."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{listener.getsockname()[1]}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
        f"http: {{addr: {at}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(shutil.which("docker-registry")), "serve", folder / "config.yml"], stdout=log, stderr=log
        )
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

    def push(name: str) -> str:
        full = f"{registry[0]}/{name}"
        folder = tmp_path / "image"
        folder.mkdir(exist_ok=True)
        for layer in ("first", "second"):
            (folder / layer).write_bytes(os.urandom(20_000_000))
        (folder / "Dockerfile").write_text(
            "FROM scratch\nCOPY first /first\nCOPY second /second\nLABEL tritonnb.triton.release=25.12\n"
        )
        docker_client.images.build(path=str(folder), tag=full, rm=True)
        told = docker_client.api.push(full)
        assert "error" not in told, told
        docker_client.images.remove(full)
        names.append(full)
        return full

    yield push
    for name in names:
        forget(docker_client, name)


@pytest.fixture
def line(registry, docker_client):
    """Return a line to the registry; what was pulled over it is forgotten."""
    line = Line(int(registry[0].partition(":")[2]))
    yield line
    line.close()
    for image in docker_client.images.list():
        for tag in image.tags:
            if tag.startswith(line.at):
                forget(docker_client, tag)


def forget(client, name: str) -> None:
    with contextlib.suppress(ImageNotFound):
        client.images.remove(name)
