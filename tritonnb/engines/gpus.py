"""Which GPUs a container is given, and what is missing where it cannot be given any."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from tritonnb.errors import EngineError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.types import DeviceRequest

    from tritonnb.spec import Spec

ANSWER_S = 20  # nvidia-smi takes seconds where the driver is not kept loaded
WITHOUT = "or serve on the CPU: `gpus: none` (`--gpus none`)."


def device_requests(spec: Spec, info: Mapping[str, Any]) -> list[DeviceRequest]:
    """Return what to ask the daemon for: nothing where no GPU is wanted, or, with ``auto``, none can be had.

    Parameters
    ----------
    spec
        Its ``gpus`` and ``resources.gpu_cores`` (Azure ML's word for the number of GPUs).
    info
        What the daemon tells of itself (``docker info``).

    Raises
    ------
    SpecError
        ``gpus`` and ``gpu_cores`` contradict one another.
    EngineError
        GPUs were asked for by number, and this machine has not so many.
    """
    from docker.types import DeviceRequest  # noqa: PLC0415  (only where there is a daemon)

    gpus, count = spec.gpus, spec.resources.gpu_cores
    if (gpus == "none" and count) or (isinstance(gpus, tuple) and count not in {None, len(gpus)}):
        raise SpecError(f"gpus: {gpus} and gpu_cores: {count} contradict one another.", hint="give one of them.")
    capabilities = [["gpu"]]
    if isinstance(gpus, tuple):
        return [DeviceRequest(device_ids=[str(gpu) for gpu in gpus], capabilities=capabilities)]
    if gpus == "none" or count == 0:
        return []
    if count:
        return [DeviceRequest(count=count, capabilities=capabilities)]
    if gpus == "all" or not missing(info):
        return [DeviceRequest(count=-1, capabilities=capabilities)]
    return []


def missing(info: Mapping[str, Any]) -> str:
    """Return what this machine lacks to give a container a GPU, in a sentence; empty where it lacks nothing.

    Parameters
    ----------
    info
        What the daemon tells of itself.
    """
    lacks = []
    if why := _without_driver():
        lacks.append(why)
    discovered = any("nvidia" in str(device.get("ID")) for device in info.get("DiscoveredDevices") or ())
    # Docker gives out GPUs where it finds the hook, without a runtime of that name too, or through CDI.
    if not (discovered or "nvidia" in (info.get("Runtimes") or {}) or shutil.which("nvidia-container-runtime-hook")):
        if shutil.which("nvidia-ctk"):
            lacks.append(
                "the NVIDIA Container Toolkit is installed but not known to Docker (`sudo nvidia-ctk runtime configure "
                "--runtime=docker`, `sudo systemctl restart docker`)"
            )
        else:
            lacks.append("the NVIDIA Container Toolkit is not installed (package nvidia-container-toolkit)")
    return "; ".join(lacks)


def _without_driver() -> str:
    program = shutil.which("nvidia-smi")
    if not program:
        return "there is no NVIDIA driver (no nvidia-smi)"
    try:
        answer = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi fails ({error})"
    if answer.returncode == 0 and "GPU" in answer.stdout:
        return ""
    said = (answer.stdout + answer.stderr).strip().splitlines()
    return f"nvidia-smi finds no GPU ({said[-1] if said else 'it says nothing'})"


def no_gpu(refusal: str, info: Mapping[str, Any]) -> EngineError:
    """Return the error of a container that was refused its GPUs.

    Parameters
    ----------
    refusal
        The daemon's own words.
    info
        What the daemon tells of itself.
    """
    lacks = missing(info) or f"the daemon says: {refusal}"
    return EngineError(f"The container cannot be given a GPU: {lacks}.", hint=f"mend that, {WITHOUT}")
