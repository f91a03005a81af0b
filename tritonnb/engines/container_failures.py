"""Why a container does not run, in words: from what the daemon told of it and what its log says."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tritonnb.client.diagnosis import diagnose
from tritonnb.engines.daemon import OTHERWISE, inside_container
from tritonnb.engines.gpus import WITHOUT, no_gpu
from tritonnb.engines.supervised import last_lines
from tritonnb.errors import EngineError, PortInUseError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.spec import Spec

KILLED = 137  # 128 + SIGKILL


@dataclass(frozen=True)
class ContainerState:
    """What ``foreign/container.py`` tells of its container.

    Parameters
    ----------
    id
        The daemon's; empty before it was created.
    started
        Whether it came to run.
    refused, status
        Why the daemon did not create or start it, and the HTTP status of that answer.
    limits_refused
        The limits that the daemon may not set.
    away
        Why the daemon cannot be asked at the moment.
    paused, removed
        What somebody did to it.
    exit_code
        How it ended.
    oom
        Whether one of its processes was killed for want of memory.
    oom_killed
        Whether that ended it.
    error
        What the daemon says about its end.
    """

    id: str = ""
    started: bool = False
    refused: str = ""
    status: int = 0
    limits_refused: tuple[str, ...] = ()
    away: str = ""
    paused: bool = False
    removed: bool = False
    exit_code: int | None = None
    oom: bool = False
    oom_killed: bool = False
    error: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> ContainerState:
        """Return the state that a state file holds."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in told.items() if key in known})


def trouble(name: str, state: ContainerState) -> EngineError | None:
    """Return what is the matter with a container that has not ended, or None.

    Parameters
    ----------
    name
        Its name.
    state
        Its state.
    """
    if state.away:
        return EngineError(
            f"The Docker daemon no longer answers ({state.away}).",
            hint="start it again; a container that it kept running is then taken up again.",
        )
    if state.paused:
        return EngineError(f"The container {name} is paused.", hint=f"`docker unpause {name}`.")
    return None


def end(name: str, spec: Spec, state: ContainerState, logs: str, info: Mapping[str, Any]) -> EngineError:
    """Return why a container could not be run, or how it ended.

    Parameters
    ----------
    name
        Its name.
    spec
        What it was to serve.
    state
        Its state.
    logs
        Its log.
    info
        What the daemon tells of itself.
    """
    if state.refused:
        return _refusal(name, spec, state, info)
    if state.removed:
        return EngineError(f"The container {name} was removed by somebody.", hint="deploy it again.")
    if state.oom_killed:
        limit = f" of {spec.resources.memory_gb:g} GB" if spec.resources.memory_gb else ""
        return EngineError(
            f"tritonserver was killed for want of memory: it reached its container's limit{limit}.",
            logs=last_lines(logs),
            hint="give it more (`resources.memory_gb`, `--memory-gb`), or load fewer models or instances.",
        )
    last = last_lines(logs)
    if error := _from_log(spec, logs):
        return error
    if state.exit_code is None:
        how, hint = "is no longer watched over: its supervisor was killed", "deploy it again."
    elif state.exit_code == KILLED:
        how, hint = "was killed (signal 9)", f"`docker kill`, or the machine ran out of memory: {name} had no limit."
        hint = diagnose(f"killed by signal 9\n{last}") if spec.resources.memory_gb else hint
    else:
        how = f"ended with exit code {state.exit_code}" + (f" ({state.error})" if state.error else "")
        hint = diagnose(last)
    return EngineError(f"tritonserver {how}.", logs=last, hint=hint)


def _refusal(name: str, spec: Spec, state: ContainerState, info: Mapping[str, Any]) -> EngineError:  # noqa: PLR0911  (one a cause)
    said = state.refused
    if re.search(r"port is already allocated|address already in use", said):
        port = re.search(r":(\d+)(?::| failed|\b)", said)
        return PortInUseError(
            f"Port {port[1] if port else ''} of this machine is taken: {said}.",
            hint="choose another port, or leave it out for a free one.",
        )
    if re.search(r"could not select device driver|unknown or invalid runtime name|nvidia-container-cli", said):
        return old_driver(said) or no_gpu(said, info)
    if "is already in use by container" in said:
        return EngineError(
            f"There is a container {name} already that is not tritonnb's; it was not touched.",
            hint=f"remove or rename it (`docker rename {name} OTHER`), or deploy under another name.",
        )
    if "bind source path does not exist" in said or "invalid mount config" in said:
        inside = inside_container()
        where = "this notebook runs in a container, and the daemon beside it" if inside else "the daemon runs elsewhere"
        return EngineError(
            f"The Docker daemon does not find this notebook's folder: {where}. It says: {said}.",
            hint="mount TRITONNB_HOME into the notebook's container under the path that it has on the machine, "
            + OTHERWISE,
        )
    if "executable file not found" in said:
        return _no_server(spec, said)
    if re.search(r"[Nn]o such image", said):
        return EngineError(f"The image is gone: {said}.", hint="deploy it again; it is then pulled.")
    return EngineError(f"The container {name} could not be started: {said}.", hint="`docker info` shows the daemon.")


def _no_server(spec: Spec, said: str) -> EngineError:
    return EngineError(
        f"The image {spec.server.image or ''} holds no tritonserver: {said}.",
        hint="take an image of Triton's (`server.image`): nvcr.io/nvidia/tritonserver:YY.MM-py3, without -sdk.",
    )


def _from_log(spec: Spec, logs: str) -> EngineError | None:
    """Return the error that a log names plainly, or None."""
    if missing := re.search(r"exec tritonserver failed: [^\n]*", logs):  # Docker's init process
        return _no_server(spec, missing[0])
    if unknown := re.search(r"unrecognized option '--([^'=]+)", logs):  # the server then prints all that it knows
        known = re.findall(r"^  --([\w-]+) ", logs, re.MULTILINE)
        return EngineError(f"tritonserver has no flag {unknown[1]!r}.", hint=nearest(unknown[1], known))
    return old_driver(logs)


def old_driver(text: str) -> EngineError | None:
    """Return the error of a driver that is too old for the image, where a log or a refusal tells of one.

    Parameters
    ----------
    text
        The container's log, or what the daemon refused it with.
    """
    found = re.search(
        # NVIDIA's entry point; its container toolkit. What CUDA itself says stands in every log without a GPU.
        r"built for NVIDIA Driver Release ([\d.]+) or later[^\n]*\n?[^\n]*version ([\d.]+)"
        r"|unsatisfied condition: (cuda>=[\d.]+)",
        text,
    )
    if not found:
        return None
    wanted, there = found[1] or found[3], found[2] or "less"
    return EngineError(
        f"The NVIDIA driver is too old for the image: it wants {wanted}, and {there} is there.",
        hint="update the driver, take an older image (`server.image`; NVIDIA's support matrix names the driver of each "
        f"release), {WITHOUT}",
    )
