"""The machine itself: shared memory, disk, ports and GPU."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tritonnb.doctor.programs import answer_of, last_line
from tritonnb.doctor.report import GPU, HOME, PORTS, SHARED_MEMORY, Finding, megabytes
from tritonnb.home import home
from tritonnb.supervise import SupervisedProcess

if TYPE_CHECKING:
    from collections.abc import Iterable

SHARED_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  (where Linux keeps POSIX shared memory)
#: Each instance of a model in Python or ONNX takes 1 MB at its start; its requests and answers pass through as well.
SHARED_MEMORY_MB = 16
#: For logs and staged models.
HOME_MB = 50
DRIVER = Path("/proc/driver/nvidia/version")
DEVICES = Path("/sys/bus/pci/devices")


def shared_memory() -> Finding:
    """Say whether the server and its Python processes can exchange tensors through shared memory."""
    folder = SHARED_MEMORY_FOLDER
    mend = (
        "give /dev/shm room: `docker run --shm-size=1g`; in Kubernetes an emptyDir of medium Memory mounted there; "
        "else `sudo mount -o remount,size=1g /dev/shm`."
    )
    if not folder.is_dir():
        return Finding(SHARED_MEMORY, "missing", f"{folder} is not there", mend)
    usage = shutil.disk_usage(folder)
    detail = f"{megabytes(usage.total)}, {megabytes(usage.free)} free"
    if not os.access(folder, os.W_OK | os.X_OK):
        mend = "run `sudo chmod 1777 /dev/shm`."
        return Finding(SHARED_MEMORY, "broken", f"{folder} cannot be written", mend, detail)
    if usage.free < SHARED_MEMORY_MB * 2**20:
        found = f"too little room in {folder} for models in Python and ONNX"
        return Finding(SHARED_MEMORY, "broken", found, mend, detail)
    found = f"{folder} is {'mounted' if folder.is_mount() else 'a plain folder'}, with room"
    return Finding(SHARED_MEMORY, "ok", found, detail=detail)


def home_folder() -> Finding:
    """Say whether tritonnb's home can be written, without making it."""
    folder = home()
    # os.path, because it takes what may not be looked at for missing: the folder above then tells.
    existing = next(above for above in (folder, *folder.parents) if os.path.exists(above))  # noqa: PTH110
    mend = "set TRITONNB_HOME to a folder that you can write, with some room."
    if not existing.is_dir():
        return Finding(HOME, "broken", "a file stands in its way", mend, str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(HOME, "broken", "cannot be written", mend, str(folder))
    free = shutil.disk_usage(existing).free
    running = sum(SupervisedProcess.attach(deployment) is not None for deployment in folder.glob("deployments/*"))
    detail = f"{folder}, {megabytes(free)} free, {running} running deployment{'s' * (running != 1)}"
    if free < HOME_MB * 2**20:
        return Finding(HOME, "broken", "no room", mend, detail)
    return Finding(HOME, "ok", "can be written", detail=detail)


def ports(numbers: Iterable[int]) -> Finding:
    """Say which of these ports of 127.0.0.1 are taken, and by whom.

    Parameters
    ----------
    numbers
        The ports to look at.
    """
    numbers = tuple(numbers)
    taken = [port for port in numbers if not _is_free(port)]
    if not taken:
        return Finding(PORTS, "ok", "free", detail=", ".join(map(str, numbers)))
    holders = dict.fromkeys(taken, "another user's process")
    for connection in psutil.net_connections("tcp"):
        port = connection.laddr.port if connection.laddr and connection.status == psutil.CONN_LISTEN else 0
        if port in holders and connection.pid:
            holders[port] = f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    found = f"taken: {', '.join(map(str, taken))}"
    mend = "leave the ports out (tritonnb then takes free ones), or stop what holds them."
    return Finding(PORTS, "missing", found, mend, ", ".join(f"{port} by {who}" for port, who in holders.items()))


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As tritonserver binds: a port that a closed connection still holds is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def gpu() -> Finding:
    """Say which NVIDIA GPUs are there, with their driver."""
    if program := shutil.which("nvidia-smi"):
        answer = answer_of([program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
        if answer.returncode == 0 and answer.stdout.strip():
            return Finding(GPU, "ok", "there", detail="; ".join(answer.stdout.strip().splitlines()))
        mend = "load the driver (`sudo modprobe nvidia`); after an upgrade of the driver, reboot."
        return Finding(GPU, "broken", "nvidia-smi fails", mend, last_line(answer.stdout + answer.stderr))
    if DRIVER.exists():
        detail = DRIVER.read_text().partition("\n")[0]
        return Finding(GPU, "ok", "the driver is loaded, without nvidia-smi", detail=detail)
    if _has_nvidia_card():
        mend = "install NVIDIA's driver; without it the embedded engine serves on the CPU all the same."
        return Finding(GPU, "broken", "an NVIDIA card without its driver", mend)
    return Finding(GPU, "missing", "no NVIDIA GPU", "none is needed: the embedded engine serves on the CPU.")


def _has_nvidia_card() -> bool:
    # PCI's words: NVIDIA's vendor number, and the class of display controllers.
    return any(
        (device / "vendor").read_text().strip() == "0x10de" and (device / "class").read_text().startswith("0x03")
        for device in DEVICES.glob("*")
    )
