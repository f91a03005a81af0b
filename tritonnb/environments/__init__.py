"""The Python environments that tritonnb builds in its home: the engine's, and overlays of extra packages on it."""

from tritonnb.environments.building import Report, remove_leftovers
from tritonnb.environments.engine import EngineEnvironment, check_room, engine_environment, environment_for
from tritonnb.environments.image_overlay import ImagePython, image_overlay
from tritonnb.environments.interpreter import Interpreter, find_interpreter
from tritonnb.environments.overlay import Overlay, overlay
from tritonnb.environments.pip import addresses
from tritonnb.environments.wanted import FACTS, OVERLAYS, shown

__all__ = [
    "FACTS",
    "OVERLAYS",
    "EngineEnvironment",
    "ImagePython",
    "Interpreter",
    "Overlay",
    "Report",
    "addresses",
    "check_room",
    "engine_environment",
    "environment_for",
    "find_interpreter",
    "image_overlay",
    "overlay",
    "remove_leftovers",
    "shown",
]
