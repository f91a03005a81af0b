"""Engines: each runs a real tritonserver for a spec and says where it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonnb.engines.embedded import EmbeddedEngine

if TYPE_CHECKING:
    from pathlib import Path

    from tritonnb.engines.base import Engine
    from tritonnb.spec import Spec

__all__ = ["EmbeddedEngine", "engine_for"]


def engine_for(spec: Spec, folder: Path, key: str) -> Engine:
    """Return the engine that a spec asks for; there is one in this release."""
    return EmbeddedEngine(spec, folder, key)
