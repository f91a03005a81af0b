"""Podman as a service that speaks Docker's API: images stay in its folder from one session to the next."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

PROGRAMS = ("podman", "catatonit", "conmon")
# Without CAP_SYS_RESOURCE Podman's own defaults cannot be set.
SETTINGS = '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'


def missing() -> str:
    """Return why this machine cannot run Podman, empty where it can."""
    if os.geteuid() != 0:
        return "Podman is run for the tests by root only"
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return f"Podman is not installed (Debian: apt-get install {' '.join(PROGRAMS)})" if absent else ""


class Podman:
    """A service of its own; a context manager that starts and stops it.

    Parameters
    ----------
    folder
        Where its images are; one service at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Podman remembers it together with the images, so it is the same each time.
        self._run = Path(tempfile.gettempdir(), f"tnp{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]}")
        self._socket = self._run / "podman.sock"
        self.host = f"unix://{self._socket}"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run.mkdir(exist_ok=True)
        self._socket.unlink(missing_ok=True)  # of a session that was killed
        (self._folder / "containers.conf").write_text(SETTINGS)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "podman", f"--root={self._folder / 'storage'}", f"--runroot={self._run / 'run'}",
                    "--cgroup-manager=cgroupfs", "--events-backend=file", "system", "service", "--time=0", self.host,
                ],
                env={**os.environ, "CONTAINERS_CONF": str(self._folder / "containers.conf")},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                said = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"Podman's service does not start here:\n{said[-1000:]}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self._socket))
            return True
        return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        subprocess.run(
            ["umount", "--lazy", self._folder / "storage" / "overlay"], check=False, stderr=subprocess.DEVNULL
        )
        shutil.rmtree(self._run, ignore_errors=True)
