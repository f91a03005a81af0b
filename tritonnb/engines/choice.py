"""Which engine serves a spec that leaves the choice open (``engine: auto``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonnb.errors import EngineError, SpecError, nearest

if TYPE_CHECKING:
    from tritonnb.spec import Spec

#: Names the engine that ``auto`` means, for a machine, a test run or a course.
VARIABLE = "TRITONNB_ENGINE"
_NAMES = ("auto", "docker", "embedded")


@dataclass(frozen=True)
class Choice:
    """An engine and the reason why.

    Parameters
    ----------
    engine
        ``embedded`` or ``docker``.
    why
        Empty where the spec names it.
    """

    engine: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.engine} engine" + (f" ({self.why})" if self.why else "")


def choose(spec: Spec) -> Choice:
    """Return the engine for a spec: Docker where a daemon answers and has an image of Triton, else the embedded one.

    Cheap without Docker: nothing is imported where no socket and no variable points to a daemon.

    Parameters
    ----------
    spec
        What is to be served.

    Raises
    ------
    SpecError
        ``TRITONNB_ENGINE`` names no engine.
    """
    if spec.engine != "auto":
        return Choice(spec.engine)
    if fields := of_docker_alone(spec):
        return Choice("docker", f"only it serves {', '.join(fields)}")
    named = os.environ.get(VARIABLE, "auto")
    if named not in _NAMES:
        raise SpecError(f"{VARIABLE} is {named!r}, which is no engine.", hint=nearest(named, _NAMES))
    if named != "auto":
        return Choice(named, f"{VARIABLE} says so")
    return _by_what_is_there()


def _by_what_is_there() -> Choice:
    from tritonnb.engines.daemon import address, docker_client  # noqa: PLC0415  (only `auto` asks)

    at = address()
    if at is None:
        return Choice("embedded", "there is no Docker daemon")
    try:
        with docker_client(at) as client:
            from tritonnb.engines.images import local_image  # noqa: PLC0415

            image = local_image(client, None)
    except EngineError as error:
        return Choice("embedded", error.message.rstrip("."))
    if image is None:
        return Choice("embedded", f"the Docker daemon at {at} has no image of Triton")
    return Choice("docker", f"its daemon has {image.name}")


def of_docker_alone(spec: Spec) -> list[str]:
    """Return the fields of a spec that are set and that the embedded engine does not serve."""
    plain = type(spec)(name=spec.name)
    fields = [] if spec.gpus in {"auto", "none"} else ["gpus"]
    fields += ["resources"] if spec.resources != plain.resources else []
    return fields + [
        f"server.{key}" for key in ("image", "shm_size") if getattr(spec.server, key) != getattr(plain.server, key)
    ]
