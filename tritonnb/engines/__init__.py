"""Engines: each runs a real tritonserver for a spec and says where it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonnb.engines.choice import Choice, choose, of_docker_alone
from tritonnb.engines.embedded import EmbeddedEngine
from tritonnb.foreign.container import PLAN

if TYPE_CHECKING:
    from pathlib import Path

    from tritonnb.engines.base import Engine
    from tritonnb.spec import Spec

__all__ = ["Choice", "EmbeddedEngine", "choose", "engine_for", "of_docker_alone"]


def engine_for(spec: Spec, folder: Path, key: str) -> Engine:
    """Return the engine that runs in a folder already, or else the one that the spec asks for.

    Parameters
    ----------
    spec
        What is served and how.
    folder
        The folder of the run.
    key
        The bearer key.
    """
    runs = Choice("docker" if (folder / PLAN).exists() else "embedded") if folder.exists() else None
    choice = runs or choose(spec)
    if choice.engine == "docker":
        from tritonnb.engines.docker import DockerEngine  # noqa: PLC0415  (lazy: many machines have no Docker)

        return DockerEngine(spec, folder, key, choice.why)
    return EmbeddedEngine(spec, folder, key, choice.why)
