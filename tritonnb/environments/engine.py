"""The engine environment: a Python of its own that holds the real tritonserver of the ``nvidia-pytriton`` wheel.

It is built once into tritonnb's home and reused, so that nobody's own numpy is touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from tritonnb.environments.building import StepError, build_once, make_virtual_environment, run_step
from tritonnb.environments.interpreter import Interpreter, find_interpreter
from tritonnb.environments.pip import PipProgress, pip_install
from tritonnb.errors import EnvironmentBuildError
from tritonnb.home import home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonnb.environments.building import Report

ROOM_MB = 900  # 390 MB when built; pip unpacks beside it

# Read by every Python of the environment, so by the server's stubs, which heed no PYTHON* variable: a crash then names
# the model's line that led to it, and what a model prints is in the server's log at once.
_STARTUP = """\
import faulthandler, sys; sys.stderr and faulthandler.enable()
import sys; sys.stdout and sys.stdout.reconfigure(line_buffering=True)
"""


@dataclass(frozen=True)
class EngineEnvironment:
    """A built engine environment.

    Parameters
    ----------
    folder
        Where it is.
    interpreter
        The Python that it was made from.
    """

    folder: Path
    interpreter: Interpreter

    @property
    def base(self) -> EngineEnvironment:
        """What an `Overlay` is on: itself."""
        return self

    @property
    def python(self) -> Path:
        """The environment's own Python."""
        return self.folder / "bin" / "python3"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        return self.folder / "lib" / f"python{self.interpreter.minor}" / "site-packages"

    @property
    def tritonserver(self) -> Path:
        """The server's program."""
        return self.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backend_files(self) -> tuple[Path, ...]:
        """The files of Triton's Python backend, with the stub for this Python."""
        triton = self.site_packages / "pytriton" / "tritonserver"
        backend = triton / "backends" / "python"
        return (
            backend / "libtriton_python.so",
            backend / "triton_python_backend_utils.py",
            triton / "python_backend_stubs" / self.interpreter.minor / "triton_python_backend_stub",
        )

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment variables that a process of this environment needs, the caller's as the base.

        Parameters
        ----------
        more
            The user's own. What they put into PATH and LD_LIBRARY_PATH is searched after what is needed here, and
            before the caller's.
        """
        more = more or {}
        # The caller's own Python settings would lead the stub to the caller's packages.
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
        callers = variables.get("PATH", os.defpath)
        variables |= more
        variables["PATH"] = _search_path(self.folder / "bin", more.get("PATH", ""), callers)
        libraries = (self.site_packages / "nvidia_pytriton.libs", self.interpreter.library.parent)
        variables["LD_LIBRARY_PATH"] = _search_path(*libraries, more.get("LD_LIBRARY_PATH", ""))
        return variables


def _search_path(*folders: Path | str) -> str:
    return os.pathsep.join(str(folder) for folder in folders if folder)


def engine_environment(report: Report | None = None) -> EngineEnvironment:
    """Return the engine environment, built first where it is missing.

    Parameters
    ----------
    report
        Told how the build goes.

    Raises
    ------
    EngineError
        This machine cannot run the embedded server, or has no suitable Python.
    EnvironmentBuildError
        The build failed; nothing is left of it.
    """
    report = report or (lambda _text, _fraction: None)
    environment = environment_for(find_interpreter())
    build_once(environment.folder, lambda draft: _build(environment, draft, report), "the engine", report)
    return environment


def environment_for(interpreter: Interpreter) -> EngineEnvironment:
    """Return the engine environment that this release uses with an interpreter, built or not."""
    recipe = json.dumps([str(interpreter.path), interpreter.version, engine_requirements(), _STARTUP])
    key = f"py{interpreter.minor}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    return EngineEnvironment(home() / "engines" / key, interpreter)


def check_room(folder: Path) -> None:
    """Raise `EnvironmentBuildError` where a folder's disk has no room for an engine."""
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < ROOM_MB:
        raise EnvironmentBuildError(
            f"The engine needs {ROOM_MB} MB in {folder}, and {free_mb} MB are free.",
            hint="make room, or set TRITONNB_HOME to a folder on another disk.",
        )


def engine_requirements() -> str:
    """Return what is in the engine environment, as a text for pip."""
    return files("tritonnb").joinpath("engine-requirements.txt").read_text()


def _build(environment: EngineEnvironment, draft: Path, report: Report) -> None:
    check_room(environment.folder.parent)
    requirements = engine_requirements()
    pinned = draft / "requirements.txt"
    pinned.write_text(requirements)
    count = len(re.findall(r"^[\w-]+.*==", requirements, re.MULTILINE))
    try:
        report(f"making a Python {environment.interpreter.minor} environment", 0.0)
        made = make_virtual_environment(draft, environment.interpreter.path)
        run_step(
            [*pip_install(made / "bin" / "python3"), "--no-deps", "--requirement", pinned],
            PipProgress(report, count),
        )
    except StepError as failed:
        raise _build_error(failed.lines) from None
    packages = environment.site_packages.relative_to(environment.folder)
    (made / packages / "tritonnb.pth").write_text(_STARTUP)
    report("engine built", 1.0)


def _build_error(lines: list[str]) -> EnvironmentBuildError:
    """Say in one sentence why a step of the build failed, and the way out."""
    text = "\n".join(lines)
    errors = [line for line in lines if re.match(r"(ERROR|error|OSError|RuntimeError)", line)] or lines[-1:]
    if "No space left on device" in text or "Disk quota exceeded" in text:
        hint = "make room, or set TRITONNB_HOME to a folder on another disk."
    elif re.search(
        r"No matching distribution|Could not find a version|NewConnectionError|name resolution|timed out",
        text,
    ):
        hint = (
            "the engine's packages come from PyPI: check the network and pip's index settings, or put the wheels of "
            "tritonnb/engine-requirements.txt into a folder and set PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER."
        )
    else:
        hint = "`tritonnb engine install` tries again."
    return EnvironmentBuildError(
        f"The engine environment could not be built: {errors[0] if errors else 'no output'}", hint=hint
    )
