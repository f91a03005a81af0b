"""The handles on what runs: a deployment of ours, or any v2 server that was connected to."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tritonnb.handle.connection import Connection, connect
    from tritonnb.handle.current import deployment, deployments
    from tritonnb.handle.deployed import Deployment
    from tritonnb.handle.served import Served

__all__ = ["Connection", "Deployment", "Served", "connect", "deployment", "deployments"]

# Imported at first use: who connects to a server needs none of what deploys one.
_HOMES = {
    "Connection": "connection",
    "connect": "connection",
    "deployment": "current",
    "deployments": "current",
    "Deployment": "deployed",
    "Served": "served",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tritonnb.handle' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tritonnb.handle.{_HOMES[name]}"), name)
