"""Runs one server and makes sure that it does not outlive its owner.

Started as a script in an interpreter of its own (``python -I -S supervisor.py FOLDER``), with the standard library
alone, so that it is up in some 20 ms. ``FOLDER/job.json`` says what to run; ``FOLDER/process.json`` tells how it goes.

Why a process, and why a pidfd: nbval, "restart now" and the OOM killer end a kernel with SIGKILL, so nothing in the
kernel can clean up; and the end-of-file of a pipe does not come while a child that the kernel forked lives on.
"""

import contextlib
import ctypes
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

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where Linux keeps POSIX shared memory)
CLEAN_UP_S = 60  # for the daemon of a container, which may be busy
WELL_AFTER_S = 300  # a server that ran so long had recovered: the next failure is a first one again


def main(folder: Path) -> None:
    """Run the job of ``folder`` until its server is told to stop or its owner is gone; then clean up."""
    job = json.loads((folder / "job.json").read_text())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, ring = socket.socketpair()
    ring.setblocking(False)  # noqa: FBT003  (the standard library's signature)
    signal.set_wakeup_fd(ring.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    adopt_orphans()

    with contextlib.suppress(ProcessLookupError):  # the owner is gone already: nothing to run, only to clean up
        stop = [asked.fileno()]
        if job["owner"]:
            stop.append(os.pidfd_open(job["owner"]))
        if not job["owner"] or os.getppid() == job["owner"]:  # else its number was given to another process meanwhile
            run(job, folder, stop)
    clean_up(folder, job)


def run(job: dict, folder: Path, stop: list[int]) -> None:
    """Start the server, again where it is to be restarted, until one of the descriptors ``stop`` is readable."""
    restarts = failures = 0
    while True:
        began = time.monotonic()
        # What a first start is told by requests, a restart is told on its command line.
        loaded = loaded_models(folder) if restarts else []
        with Path(job["log"]).open("ab") as log:
            server = subprocess.Popen(
                [*job["command"], *(f"--load-model={model}" for model in loaded)],
                env=job["environment"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            tell(folder, server.pid, None, restarts)
            ended = os.pidfd_open(server.pid)
            if ended not in select.select([ended, *stop], [], [])[0]:
                os.killpg(server.pid, signal.SIGTERM)
                select.select([ended], [], [], job["grace_s"])
                return
            os.close(ended)
            code = server.wait()
            failures = 0 if time.monotonic() - began > WELL_AFTER_S else failures
            again = code and wants_restart(folder) and failures < len(job["back_off_s"])
            tell(folder, 0, None if again else code, restarts)
        finally:  # also when nothing can be told, because somebody removed the folder
            end_group(server.pid)
            free_shared_memory(job["shared_memory_prefix"])
        if not again:
            select.select(stop, [], [])  # the folder stays until then: its log tells why the server ended
            return
        if select.select(stop, [], [], job["back_off_s"][failures])[0]:
            return
        restarts += 1
        failures += 1


def wants_restart(folder: Path) -> bool:
    """Tell whether a server that failed is to be started again; it may have been changed since the start."""
    return json.loads((folder / "job.json").read_text())["restart"]


def loaded_models(folder: Path) -> list[str]:
    """Return the models that the server had loaded; none where it failed before the first of them."""
    try:
        return json.loads((folder / "loaded.json").read_text())
    except FileNotFoundError:
        return []


def clean_up(folder: Path, job: dict | None = None) -> None:
    """End what is left of the server, in its process group and outside, and remove its folder."""
    with contextlib.suppress(OSError, ValueError):
        process = json.loads((folder / "process.json").read_text())
        if process["pid"] and started(process["pid"]) == process["started"]:  # else the number is another's by now
            end_group(process["pid"])
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
        job = job or json.loads((folder / "job.json").read_text())
        try:
            if job.get("clean_up"):
                quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                subprocess.run(job["clean_up"], **quiet, check=False, timeout=CLEAN_UP_S)
        finally:  # after it, for a container with this machine's shared memory makes regions until its end
            free_shared_memory(job["shared_memory_prefix"])
    shutil.rmtree(folder, ignore_errors=True)


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent, the server, has ended.

    Else they are zombies until process 1 finds time for them, in many containers for ever, and nobody can tell a
    group of zombies from one that lives.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_group(leader: int) -> None:
    """Kill a process group and wait, for at most a second, until it is gone."""
    deadline = time.monotonic() + 1
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-leader, os.WNOHANG)[0]:
                    pass
            os.killpg(leader, 0)
            time.sleep(0.005)


def free_shared_memory(prefix: str) -> None:
    """Unlink the shared-memory regions whose names begin with ``prefix``."""
    for region in SHARED_MEMORY.iterdir():
        if region.name.startswith(prefix):
            region.unlink(missing_ok=True)


def started(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot; 0 where there is none or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def tell(folder: Path, pid: int, exit_code: int | None, restarts: int) -> None:
    """Write ``process.json`` at one stroke, so that a reader never sees half of it."""
    draft = folder / "process.json.new"
    facts = {
        "pid": pid,  # 0 after its end
        "started": started(pid),
        "exit_code": exit_code,
        "restarts": restarts,
        "supervisor": os.getpid(),
        "supervisor_started": started(os.getpid()),
    }
    draft.write_text(json.dumps(facts))
    draft.replace(folder / "process.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
