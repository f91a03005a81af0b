"""The Python environments that tritonnb builds in its home: the engine's, and overlays of extra packages on it."""

from tritonnb.environments.building import Report
from tritonnb.environments.engine import EngineEnvironment, check_room, engine_environment, environment_for
from tritonnb.environments.interpreter import Interpreter, find_interpreter
from tritonnb.environments.overlay import Overlay, overlay

__all__ = [
    "EngineEnvironment",
    "Interpreter",
    "Overlay",
    "Report",
    "check_room",
    "engine_environment",
    "environment_for",
    "find_interpreter",
    "overlay",
]
