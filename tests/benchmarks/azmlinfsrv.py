"""Azure ML's own host of entry scripts as a peer to measure against; it is put under ``build/`` by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PACKAGE = "azureml-inference-server-http==1.5.1"
FOLDER = Path(__file__).parent.parent.parent / "build" / PACKAGE.replace("==", "-")
PROGRAM = FOLDER / "bin" / "azmlinfsrv"


def install(python: Path) -> None:
    """Install it for a Python: the one that runs the scripts on the other side, so that both have the same."""
    if not PROGRAM.exists():  # which pip writes last
        subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", "--clear", "-p", python, FOLDER], check=True)
        subprocess.run([FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet", PACKAGE], check=True)


@contextlib.contextmanager
def serving(script: Path, workers: int, log: Path):
    """Serve a script; give its scoring URI."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [PROGRAM, "--entry_script", script, "--worker_count", str(workers), "--port", str(port)]
    # Without it every gunicorn of this user shares one control socket.
    environment = os.environ | {"GUNICORN_CMD_ARGS": "--no-control-socket", "AML_APP_ROOT": str(script.parent)}
    with log.open("w") as lines:
        process = subprocess.Popen(command, cwd=script.parent, env=environment, stdout=lines, stderr=lines)
    try:
        _wait(process, f"http://127.0.0.1:{port}/", log)
        yield f"http://127.0.0.1:{port}/score"
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url):
            return
        time.sleep(0.05)
    raise RuntimeError(f"azmlinfsrv does not serve:\n{log.read_text()}")
