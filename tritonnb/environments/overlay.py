"""Extra packages beside the engine's: one environment for each set of them, on the engine environment as its base.

An overlay is a virtual environment of the engine's interpreter that sees the base's packages behind its own. The base
is not changed, and what tritonnb itself runs on there keeps its version in every overlay.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tritonnb.environments.building import StepError, make_virtual_environment, run_step
from tritonnb.environments.engine import EngineEnvironment, engine_environment, engine_requirements
from tritonnb.environments.pip import Base, PipProgress, pip_error, pip_install, pip_variables
from tritonnb.environments.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tritonnb.environments.building import Report

#: What the server's stub, our backend and the score tier need as it is; what these need in turn may change within
#: their ranges.
HELD = ("numpy", "onnxruntime", "tritonclient[http]", "uvicorn")


@dataclass(frozen=True)
class Overlay:
    """An engine environment with extra packages.

    Parameters
    ----------
    folder
        Where it is.
    base
        The engine environment that it is on.
    """

    folder: Path
    base: EngineEnvironment

    @property
    def python(self) -> Path:
        """The overlay's own Python."""
        return self.folder / "bin" / "python3"

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment variables that a process of this environment needs, as `EngineEnvironment.variables`.

        Triton's stub and a worker find the packages through the Python that is first on PATH.
        """
        variables = self.base.variables(more)
        return {**variables, "PATH": f"{self.folder / 'bin'}{os.pathsep}{variables['PATH']}"}


def overlay(pip: Iterable[str], report: Report | None = None) -> EngineEnvironment | Overlay:
    """Return the environment that has these packages beside the engine's, built first where it is missing.

    There is one for each set of requirements, whatever their order, and for each content of local files among them.
    Without requirements it is the engine environment itself.

    Parameters
    ----------
    pip
        The packages, as `tritonnb.requirements.requirements` takes them.
    report
        Told how the build goes.

    Raises
    ------
    SpecError
        A requirement is malformed, or names a file that is not there.
    EngineError
        This machine cannot run the embedded server, or has no suitable Python.
    EnvironmentBuildError
        A package, which is named, cannot be had or does not go with the others; nothing is left of the build.
    """
    report = report or (lambda _text, _fraction: None)
    wanted = Wanted.of(pip)
    base = engine_environment(report)
    if not wanted.requirements:
        return base
    folder = wanted.folder(base.folder.name, HELD)
    wanted.build(folder, partial(_build, wanted, base, report), report)
    return Overlay(folder, base)


def _build(wanted: Wanted, base: EngineEnvironment, report: Report, draft: Path) -> None:
    report(f"making an environment for {wanted}", None)
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", engine_requirements(), re.MULTILINE))
    held = [f"{name}=={pinned[name.partition('[')[0]]}" for name in HELD]
    try:
        env = make_virtual_environment(draft, base.interpreter.path, "--no-seed", "--activators", "")
        packages = env / base.site_packages.relative_to(base.folder)
        # Behind its own packages come the base's, with what the base runs at its start.
        (packages / "tritonnb.pth").write_text(f"import site; site.addsitedir({str(base.site_packages)!r})\n")
        command = [*pip_install(env / "bin" / "python3"), *held, *wanted.from_copies(draft)]
        run_step(command, PipProgress(report), pip_variables())
    except StepError as failed:
        engine = Base(
            name="the engine",
            python=f"Python {base.interpreter.minor} on Linux x86-64",
            packages=frozenset(name.replace("_", "-") for name in pinned),
            held=tuple(held),
            why="Triton's Python stub and the score tier run on these (under numpy 2 the stub sends empty tensors)",
        )
        raise pip_error(failed.lines, str(wanted), engine) from None
