"""The doctor: what this machine has for serving with Triton, what it lacks, and how to mend that.

It builds and starts nothing. Each check is one function that returns a `Finding` and is bounded in time; a check
that fails itself becomes a finding of state ``unknown``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tritonnb.doctor import report as subjects
from tritonnb.doctor.containers import ask_docker, container_toolkit, docker_daemon, triton_images
from tritonnb.doctor.engine import built_engine, engine_python, search_interpreter
from tritonnb.doctor.machine import gpu, home_folder, ports, shared_memory
from tritonnb.doctor.packages import python_packages
from tritonnb.doctor.report import Finding, Report

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Finding", "Report", "examine"]

#: HTTP, gRPC and metrics, as Triton's documents have them.
USUAL_PORTS = (8000, 8001, 8002)


def examine() -> Report:
    """Look at all that serving needs on this machine; takes about a second, and three more where Docker hangs."""
    search = search_interpreter()
    daemon = ask_docker()
    checks: dict[str, Callable[[], Finding]] = {
        subjects.INTERPRETER: partial(engine_python, search),
        subjects.ENGINE: partial(built_engine, search),
        subjects.SHARED_MEMORY: shared_memory,
        subjects.HOME: home_folder,
        subjects.PACKAGES: python_packages,
        subjects.PORTS: partial(ports, USUAL_PORTS),
        subjects.DOCKER: partial(docker_daemon, daemon),
        subjects.IMAGES: partial(triton_images, daemon),
        subjects.GPU: gpu,
        subjects.TOOLKIT: partial(container_toolkit, daemon),
    }
    return Report(tuple(checked(subject, check) for subject, check in checks.items()))


def checked(subject: str, check: Callable[[], Finding]) -> Finding:
    """Return what a check finds, or that it could not be made."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  (one check that fails must not hide what the others found)
        mend = "look at it by hand; if it is well, tell tritonnb's developers."
        return Finding(subject, "unknown", "could not be looked at", mend, f"{type(error).__name__}: {error}")
