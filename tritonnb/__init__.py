"""NVIDIA Triton Inference Server at home in a Jupyter notebook.

>>> import tritonnb as tn
>>> with tn.deploy("models") as dep:  # doctest: +SKIP
...     dep.infer("densenet_onnx", {"data_0": array})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.client import Health, InferResult, ModelMetadata, ModelState
    from tritonnb.deploying import deploy
    from tritonnb.errors import TritonNbError
    from tritonnb.handle import Connection, Deployment, connect, deployment, deployments
    from tritonnb.measure.report import Report
    from tritonnb.measure.side_by_side import side_by_side
    from tritonnb.registry import RegisteredModel, register, registered
    from tritonnb.session import InferenceSession
    from tritonnb.spec import Spec

__version__ = "0.1.0"

__all__ = [
    "Connection",
    "Deployment",
    "Health",
    "InferResult",
    "InferenceSession",
    "ModelMetadata",
    "ModelState",
    "RegisteredModel",
    "Report",
    "Spec",
    "TritonNbError",
    "connect",
    "deploy",
    "deployment",
    "deployments",
    "load_ipython_extension",
    "register",
    "registered",
    "side_by_side",
]

# Where each public name lives. They are imported at first use, so that `%load_ext tritonnb` costs next to nothing.
_HOMES = {
    "Connection": "handle",
    "connect": "handle",
    "Deployment": "handle",
    "Health": "client",
    "InferResult": "client",
    "InferenceSession": "session",
    "ModelMetadata": "client",
    "ModelState": "client",
    "RegisteredModel": "registry",
    "Report": "measure.report",
    "Spec": "spec",
    "TritonNbError": "errors",
    "deploy": "deploying",
    "deployment": "handle",
    "deployments": "handle",
    "register": "registry",
    "registered": "registry",
    "side_by_side": "measure.side_by_side",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tritonnb' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tritonnb.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics and their completion (``%load_ext tritonnb``)."""
    from tritonnb.magics import MAGICS, completion  # noqa: PLC0415  (only inside IPython)

    shell.register_magics(*MAGICS)
    completion.register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Forget the magics (``%unload_ext tritonnb``); deployments go on."""
    from tritonnb.magics import MAGICS, completion  # noqa: PLC0415  (only inside IPython)

    completion.unregister(shell)
    for kind in (kind for magics in MAGICS for kind in magics.magics.values()):
        for name in kind:
            shell.magics_manager.magics["line"].pop(name, None)
            shell.magics_manager.magics["cell"].pop(name, None)
