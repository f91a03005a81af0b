"""Extra packages beside the engine's: one environment for each set of them, on the engine environment as its base.

An overlay is a virtual environment of the engine's interpreter that sees the base's packages behind its own. The base
is not changed, and what tritonnb itself runs on there keeps its version in every overlay.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tritonnb.environments.building import StepError, build_once, make_virtual_environment, run_step
from tritonnb.environments.engine import EngineEnvironment, engine_environment, engine_requirements
from tritonnb.environments.pip import Engine, PipProgress, pip_error, pip_install, pip_variables
from tritonnb.errors import SpecError
from tritonnb.home import home
from tritonnb.requirements import local_source, requirements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tritonnb.environments.building import Report

#: What the server's stub, our backend and the score tier need as it is; what these need in turn may change within
#: their ranges. numpy first: the stub sends empty tensors under numpy 2.
HELD = ("numpy", "onnxruntime", "tritonclient[http]", "uvicorn")
#: Tells what an overlay was built from; its time of change is when it was last asked for.
FACTS = "overlay.json"
_SOURCES_LEFT_OUT = (".git", "__pycache__", "build", "*.egg-info", ".venv")


@dataclass(frozen=True)
class Overlay:
    """An engine environment with extra packages.

    Parameters
    ----------
    folder
        Where it is.
    base
        The engine environment that it is on.
    requirements
        What it was asked for.
    """

    folder: Path
    base: EngineEnvironment
    requirements: tuple[str, ...]

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
    wanted = tuple(sorted(requirements(pip)))
    sources = {requirement: source for requirement in wanted if (source := local_source(requirement))}
    contents = [_content(requirement, source) for requirement, source in sources.items()]
    base = engine_environment(report)
    if not wanted:
        return base
    recipe = json.dumps([base.folder.name, wanted, contents, HELD])
    key = f"py{base.interpreter.minor}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    made = Overlay(home() / "overlays" / key, base, wanted)
    build_once(made.folder, partial(_build, made, sources, report), f"the environment for {shown(wanted)}", report)
    os.utime(made.folder / FACTS)
    return made


def shown(wanted: Sequence[str]) -> str:
    """Return requirements as people are to see them: files by their names, without the passwords of URLs."""
    short = [re.sub(r"//[^/@\s]+@", "//****@", one.rpartition("/")[2] if one[0] == "/" else one) for one in wanted]
    return ", ".join(short)


def _build(made: Overlay, sources: Mapping[str, Path], report: Report, draft: Path) -> None:
    asked = shown(made.requirements)
    engine = _engine(made.base)
    report(f"making an environment for {asked}", None)
    try:
        env = make_virtual_environment(draft, made.base.interpreter.path, "--no-seed", "--activators", "")
        packages = env / made.base.site_packages.relative_to(made.base.folder)
        # Behind its own packages come the base's, with what the base runs at its start.
        (packages / "tritonnb.pth").write_text(f"import site; site.addsitedir({str(made.base.site_packages)!r})\n")
        command = [
            *pip_install(env / "bin" / "python3"),
            *engine.held,
            *_from_copies(made.requirements, sources, draft),
        ]
        run_step(command, PipProgress(report), pip_variables())
    except StepError as failed:
        lines = [line.replace(f"file://{draft / 'sources'}/", "") for line in failed.lines]
        raise pip_error(lines, asked, engine) from None
    for program in (env / "bin").iterdir():
        _move_program(program, env, made.folder)
    facts = {"requirements": made.requirements, "base": made.base.folder.name}
    (env / FACTS).write_text(json.dumps(facts))
    report("environment built", 1.0)


def _engine(base: EngineEnvironment) -> Engine:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", engine_requirements(), re.MULTILINE))
    held = tuple(f"{held}=={pinned[held.partition('[')[0]]}" for held in HELD)
    return Engine(base.interpreter.minor, frozenset(name.replace("_", "-") for name in pinned), held)


def _from_copies(wanted: Iterable[str], sources: Mapping[str, Path], draft: Path) -> list[str]:
    """Return the requirements with projects' folders copied: a build writes into the folder that it builds from."""
    found = []
    for requirement in wanted:
        source = sources.get(requirement)
        if source and source.is_dir():
            copy = draft / "sources" / source.name
            shutil.copytree(source, copy, dirs_exist_ok=True)
            found.append(requirement.replace(str(source), str(copy)))
        else:
            found.append(requirement)
    return found


def _move_program(program: Path, draft: Path, folder: Path) -> None:
    """Let a script of a package name the Python of the final place."""
    if program.is_symlink() or not program.is_file():
        return
    content = program.read_bytes()
    if content.startswith(b"#!"):  # where the path is long, the second line names it
        program.write_bytes(content.replace(bytes(draft), bytes(folder), 2))


def _content(requirement: str, source: Path) -> str:
    """Return a digest of a local file, or of all files of a folder."""
    if not source.exists():
        raise SpecError(f"There is no {source}, which the requirement {requirement!r} names.")
    digest = hashlib.sha256()
    if source.is_dir():
        left_out = {path for pattern in _SOURCES_LEFT_OUT for path in source.rglob(pattern)}
        paths = [path for path in sorted(source.rglob("*")) if left_out.isdisjoint((path, *path.parents))]
    else:
        paths = [source]
    for path in paths:
        if path.is_file():
            digest.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
