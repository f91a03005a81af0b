"""Runs one server and makes sure that it does not outlive its owner.

Started as a script in an interpreter of its own (``python -I -S supervisor.py FOLDER``), with the standard library
alone, so that it is up in some 20 ms. ``FOLDER/job.json`` says what to run; ``FOLDER/process.json`` tells how it goes.

Why a process, and why a pidfd: nbval, "restart now" and the OOM killer end a kernel with SIGKILL, so nothing in the
kernel can clean up; and the end-of-file of a pipe does not come while a child that the kernel forked lives on.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where Linux keeps POSIX shared memory)


def main(folder: Path) -> None:
    """Run the job of ``folder`` until its server is told to stop or its owner is gone; then clean up."""
    job = json.loads((folder / "job.json").read_text())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, ring = socket.socketpair()
    ring.setblocking(False)  # noqa: FBT003  (the standard library's signature)
    signal.set_wakeup_fd(ring.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)

    with contextlib.suppress(ProcessLookupError):  # the owner is gone already: nothing to run, only to clean up
        owner = os.pidfd_open(job["owner"])
        if os.getppid() == job["owner"]:  # else the number was given to another process in the meantime
            run(job, folder, stop=[asked.fileno(), owner])
    clean_up(folder)


def run(job: dict, folder: Path, stop: list[int]) -> None:
    """Start the server and return when one of the descriptors ``stop`` becomes readable."""
    with Path(job["log"]).open("ab") as log:
        server = subprocess.Popen(
            job["command"],
            env=job["environment"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    tell(folder, pid=server.pid, exit_code=None)
    ended = os.pidfd_open(server.pid)
    readable = select.select([ended, *stop], [], [])[0]
    if ended in readable:
        tell(folder, pid=server.pid, exit_code=server.wait())
        end_group(server.pid)
        free_shared_memory(job["shared_memory_prefix"])
        select.select(stop, [], [])  # the folder stays until then: its log tells why the server ended
        return
    os.killpg(server.pid, signal.SIGTERM)
    select.select([ended], [], [], job["grace_s"])


def clean_up(folder: Path) -> None:
    """End what is left of the server's process group, free its shared memory and remove its folder."""
    with contextlib.suppress(FileNotFoundError):
        process = json.loads((folder / "process.json").read_text())
        if process["exit_code"] is None:  # else its number may be another process's by now
            end_group(process["pid"])
    with contextlib.suppress(FileNotFoundError):
        free_shared_memory(json.loads((folder / "job.json").read_text())["shared_memory_prefix"])
    shutil.rmtree(folder, ignore_errors=True)


def end_group(leader: int) -> None:
    """Kill a process group and wait, for at most a second, until it is gone."""
    deadline = time.monotonic() + 1
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(leader, os.WNOHANG)
            os.killpg(leader, 0)
            time.sleep(0.005)


def free_shared_memory(prefix: str) -> None:
    """Unlink the shared-memory regions whose names begin with ``prefix``."""
    for region in SHARED_MEMORY.iterdir():
        if region.name.startswith(prefix):
            region.unlink(missing_ok=True)


def tell(folder: Path, **facts: object) -> None:
    """Write ``process.json`` at one stroke, so that a reader never sees half of it."""
    draft = folder / "process.json.new"
    draft.write_text(json.dumps(facts))
    draft.replace(folder / "process.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
