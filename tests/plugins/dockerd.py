"""A real Docker daemon that a test session starts for itself and takes away again without a trace.

It shares nothing with a daemon of the machine: sockets, images and network bridge are its own, and it writes no
firewall rules, so that neither it nor its end touches anybody else's containers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException

PROGRAMS = {"dockerd": "docker.io", "containerd": "docker.io", "runc": "docker.io", "ip": "iproute2"}
SESSION = "TRITONNB_TEST_SESSION"
PATIENCE_S = 30


class Dockerd:
    """A daemon with a folder of its own, in which its images stay from one run to the next.

    Parameters
    ----------
    folder
        Where its images and log are; one daemon at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = hashlib.sha256(str(folder.absolute()).encode()).digest()
        self._bridge = f"tnb{name.hex()[:8]}"
        self._subnet = f"10.{128 + name[0] % 128}.{name[1]}.1/24"
        # Not in the folder: the path of a socket has at most 107 characters.
        self._sockets = Path(tempfile.gettempdir(), self._bridge)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = -1

    @staticmethod
    def missing() -> str:
        """Return why this machine cannot run a daemon, empty where it can."""
        if os.geteuid() != 0:
            return "no Docker daemon answers, and only root can start one for the tests"
        packages = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
        return f"the Docker daemon is not installed (Debian: apt-get install {' '.join(packages)})" if packages else ""

    @property
    def host(self) -> str:
        """What DOCKER_HOST says of it."""
        return f"unix://{self._sockets}/docker.sock"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process
        return self._process.pid

    def client(self) -> docker.DockerClient:
        """Return a client; the caller closes it."""
        return docker.DockerClient(base_url=self.host, version="auto", timeout=60)

    def start(self) -> None:
        """Start it and wait until it answers; RuntimeError says why it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise RuntimeError(f"another test session uses the Docker daemon of {self.folder}") from None
        self._clear()  # of a session that was killed: the lock is ours now
        self._sockets.mkdir()
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", self._subnet, "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            self.run()
        except BaseException:
            self.stop()
            raise

    def run(self) -> None:
        """Start its process, again after ``kill()``, and wait until it answers."""
        # It outlives the tests by design (see stop()), so it does not carry the mark of what must not.
        environment = {name: value for name, value in os.environ.items() if name != SESSION}
        log = self.folder / "dockerd.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    "dockerd", f"--host={self.host}", f"--data-root={self.folder / 'data'}",
                    f"--exec-root={self._sockets}", f"--pidfile={self._sockets / 'pid'}", f"--bridge={self._bridge}",
                    "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
                    "--shutdown-timeout=2",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                raise RuntimeError(f"the Docker daemon does not start here:\n{last}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Tell whether it answers."""
        try:
            with socket.socket(socket.AF_UNIX) as door:  # docker's client leaks its own where nothing listens
                door.connect(self.host.removeprefix("unix://"))
            with contextlib.closing(self.client()) as client:
                return bool(client.ping())
        except (DockerException, OSError):
            return False

    def kill(self) -> None:
        """Kill its process alone; containers go on, as after a crash."""
        assert self._process
        self._process.kill()
        self._process.wait()
        # Its containerd died with it; where nobody reaps that, the next one would take it for alive.
        for file in (self._sockets / "pid", self._sockets / "containerd" / "containerd.pid"):
            file.unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop it with its containers and take away all that it made, but for its images."""
        if self._lock < 0:
            return
        if self._process and self._process.poll() is None:
            with contextlib.suppress(DockerException, OSError), contextlib.closing(self.client()) as client:
                for container in client.containers.list(all=True):
                    container.remove(force=True, v=True)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        self._clear()
        if self._process:
            self._process.wait()
        os.close(self._lock)
        self._lock = -1

    def left(self) -> set[str]:
        """Return what there still is of it on this machine."""
        mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        places = (str(self.folder / "data"), str(self._sockets))
        return (
            {f"process {process.pid}" for process in self._processes()}
            | {f"mount {mount}" for mount in mounts if mount.startswith(places)}
            | {f"bridge {self._bridge}" for _ in [0] if Path("/sys/class/net", self._bridge).exists()}
            | {f"folder {self._sockets}" for _ in [0] if self._sockets.exists()}
        )

    def _processes(self) -> list[psutil.Process]:
        """Return the daemon, its containerd and its containers' shims: their commands name the sockets' folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self._sockets) in argument for argument in process.cmdline()):
                    found.append(process)
        return found

    def _clear(self) -> None:
        """End what runs, the daemon first, since it ends the others best, and undo what it made."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if process.name() == "dockerd":
                    process.terminate()
                    process.wait(PATIENCE_S)
        others = self._processes()
        for process in list(others):
            with contextlib.suppress(psutil.Error):
                others += process.children(recursive=True)  # a shim's are its container's
        for process in others:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(others, timeout=PATIENCE_S)
        for thing in self.left():
            kind, _, name = thing.partition(" ")
            if kind == "mount":
                subprocess.run(["umount", "--lazy", name], check=False)
            elif kind == "bridge":
                _ip("link", "del", name)
        shutil.rmtree(self._sockets, ignore_errors=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the tests cannot make a network for a Docker daemon here: {done.stderr.strip()}")
