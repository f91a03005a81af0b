"""Engines: each runs a real tritonserver for a spec and says where it answers."""

from tritonnb.engines.base import Engine
from tritonnb.engines.embedded import EmbeddedEngine

__all__ = ["EmbeddedEngine", "Engine"]
