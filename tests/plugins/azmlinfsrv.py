"""Microsoft's own host of entry scripts, installed into an environment of its own and started on a script."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from filelock import FileLock

from tritonnb.environments import find_interpreter

REQUIREMENTS = Path(__file__).with_suffix(".txt")
PATIENCE_S = 30.0


def install(home):
    """Return the folder of its environment, built once for each home of the tests."""
    folder = home / REQUIREMENTS.stem
    with FileLock(home / f"{REQUIREMENTS.stem}.lock"):
        if (folder / "built").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as cache:
            run(sys.executable, "-m", "virtualenv", "-q", "--app-data", cache, "-p", find_interpreter().path, folder)
        run(folder / "bin" / "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", "-r", REQUIREMENTS)
        (folder / "built").touch()
    return folder


def run(*command):
    """Run a step of the installation."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def free_port():
    """Return a free port that the system does not give to whoever asks for any, while the original boots."""
    for port in random.sample(range(20000, 30000), 100):
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError("no port is free")


class OriginalHost:
    """A running original.

    Parameters
    ----------
    environment
        Where it is installed.
    folder
        An empty folder for it alone.
    files
        The script first, and what it needs: names and texts.
    variables
        More environment variables.
    """

    def __init__(self, environment, folder, files, variables):
        self._log = folder / "log"
        self.source = folder / "src"
        for name, text in files.items():
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            (self.source / name).write_text(textwrap.dedent(text))
        self.port = free_port()
        usual = {
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),  # its control socket is in it
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRITONNB_TEST_SESSION": os.environ["TRITONNB_TEST_SESSION"],
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [environment / "bin" / "azmlinfsrv", "--entry_script", next(iter(files)), "--port", str(self.port)],
                cwd=self.source,
                env=usual | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self):
        """Wait until it serves; tell whether it does."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if "ready for serving traffic" in self.log():
                return True
            time.sleep(0.02)
        return False

    def log(self):
        """Return what it has logged."""
        return self._log.read_text(errors="replace")

    def end(self):
        """End it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
