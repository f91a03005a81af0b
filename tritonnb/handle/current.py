"""The handles of this kernel by name, and which of them is meant where none is named."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tritonnb.errors import DeploymentError, nearest

if TYPE_CHECKING:
    from tritonnb.handle.served import Served

_handles: dict[str, Served] = {}
_lock = threading.Lock()


def remember(handle: Served) -> None:
    """Make a handle known by its name, and the current one."""
    with _lock:
        _handles.pop(handle.name, None)  # the latest stands last
        _handles[handle.name] = handle


def forget(handle: Served) -> None:
    """Forget a handle, unless another has taken its name."""
    with _lock:
        if _handles.get(handle.name) is handle:
            del _handles[handle.name]


def deployments() -> list[Served]:
    """Return the deployments and connections of this kernel, the latest last."""
    with _lock:
        return list(_handles.values())


def deployment(name: str | None = None) -> Served:
    """Return a deployment or connection of this kernel by name, or the latest one.

    Raises
    ------
    DeploymentError
        There is none, or none of this name; lists those there are.
    """
    known = {handle.name: handle for handle in deployments()}
    if name is None and known:
        return list(known.values())[-1]
    if name in known:
        return known[name]
    what = "No deployment runs in this kernel." if not known else f"No deployment {name!r} runs in this kernel."
    raise DeploymentError(what, hint=nearest(name or "", known) or "deploy a model: `%triton_deploy PATH`.")
