"""The engine environment: a Python of its own that holds the real tritonserver of the ``nvidia-pytriton`` wheel.

It is built once into tritonnb's home and reused, so that nobody's own numpy is touched. Its interpreter must own a
shared libpython, because the server's Python stub loads that library, and the standard library that goes with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.errors import EngineError, EnvironmentBuildError
from tritonnb.home import home, home_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Told what is going on, and how much of it is done (0 to 1; None where that cannot be known).
    Report = Callable[[str, float | None], None]

PYTHONS = ((3, 11), (3, 12))  # for which the wheel has a stub and numpy 1.26 has a wheel
GLIBC = (2, 35)  # what the tritonserver of the wheel is linked against
ROOM_MB = 900  # 390 MB when built; pip unpacks beside it

# Read by every Python of the environment, so by the server's stubs, which heed no PYTHON* variable: a crash then names
# the model's line that led to it, and what a model prints is in the server's log at once.
_STARTUP = """\
import faulthandler, sys; sys.stderr and faulthandler.enable()
import sys; sys.stdout and sys.stdout.reconfigure(line_buffering=True)
"""

# Run by a candidate: says which libpython it owns, by asking the library itself for its version. A library and an
# interpreter of different patch releases do not go together, though both are called 3.11.
_PROBE = """
import ctypes, json, os, sys, sysconfig
var = sysconfig.get_config_var
name, where = var("INSTSONAME") or "", var("LIBDIR") or ""
found = ""
for folder in (where, os.path.join(where, var("MULTIARCH") or ""), os.path.join(sys.base_prefix, "lib")):
    path = os.path.join(folder, name)
    if ".so" in name and os.path.exists(path):
        get = ctypes.CDLL(path).Py_GetVersion
        get.restype = ctypes.c_char_p
        if get().decode().split()[0] == sys.version.split()[0]:
            found = path
            break
print(json.dumps([sys.executable, sys.version_info[:3], found]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that the engine environment can be made from.

    Parameters
    ----------
    path
        The program.
    version
        Major, minor and patch release.
    library
        The shared libpython that it owns.
    """

    path: Path
    version: tuple[int, int, int]
    library: Path

    @property
    def minor(self) -> str:
        """The release series, such as ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"


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

    def variables(self) -> dict[str, str]:
        """Return the environment variables that a process of this environment needs, the caller's as the base."""
        # The caller's own Python settings would lead the stub to the caller's packages.
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
        variables["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        libraries = (self.site_packages / "nvidia_pytriton.libs", self.interpreter.library.parent)
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
        return variables


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
    from filelock import FileLock, Timeout  # noqa: PLC0415  (lazy: the package is imported by every face)

    report = report or (lambda _text, _fraction: None)
    environment = environment_for(find_interpreter())
    if environment.folder.exists():
        return environment
    lock = FileLock(home_folder("engines") / f"{environment.folder.name}.lock")
    while not lock.is_locked:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=1)
            break
        report("another process is building the engine; waiting for it", None)
    try:
        if not environment.folder.exists():
            _build(environment, report)
    finally:
        lock.release()
    return environment


def environment_for(interpreter: Interpreter) -> EngineEnvironment:
    """Return the engine environment that this release uses with an interpreter, built or not."""
    recipe = json.dumps([str(interpreter.path), interpreter.version, _requirements(), _STARTUP])
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


def _requirements() -> str:
    return files("tritonnb").joinpath("engine-requirements.txt").read_text()


def find_interpreter() -> Interpreter:
    """Return the first Python of this machine that the engine environment can be made from.

    ``TRITONNB_PYTHON`` names one; else the running one, Debian's, those on PATH, conda's and pyenv's are tried.

    Raises
    ------
    EngineError
        The machine is not Linux x86-64 with glibc 2.35 or later, or no Python fits; says what was tried.
    """
    libc, version = platform.libc_ver()
    if (sys.platform, platform.machine(), libc) != ("linux", "x86_64", "glibc") or _numbers(version) < GLIBC:
        raise EngineError(
            "The embedded tritonserver runs on Linux x86-64 with glibc 2.35 or later (Debian 12, Ubuntu 22.04 and "
            f"their successors), and this is {sys.platform} {platform.machine()} with {libc or 'no glibc'} {version}.",
        )
    tried = []
    for path in _candidates():
        try:
            answer = subprocess.run(
                [path, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=20, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            tried.append(f"{path} (does not run)")
            continue
        executable, version_info, library = json.loads(answer)
        if tuple(version_info[:2]) not in PYTHONS:
            tried.append(f"{path} ({'.'.join(map(str, version_info))})")
        elif not library:
            tried.append(f"{path} (no shared libpython of its own)")
        else:
            return Interpreter(Path(executable), tuple(version_info), Path(library))
    raise EngineError(
        "No Python 3.11 or 3.12 with a shared libpython was found. Tried: " + "; ".join(tried or ["none"]) + ".",
        hint="install one (Debian: `apt-get install python3 libpython3.11`; Ubuntu 24.04: `python3 libpython3.12`; "
        "conda: `conda create -n triton python=3.12`) and name it in the environment variable TRITONNB_PYTHON.",
    )


def _candidates() -> Iterator[str]:
    if named := os.environ.get("TRITONNB_PYTHON"):
        yield named
        return
    names = [f"python{major}.{minor}" for major, minor in PYTHONS] + ["python3"]
    paths = [str(Path(sys.base_prefix) / "bin" / name) for name in names]
    paths += [f"/usr/bin/{name}" for name in names]
    paths += [found for name in names if (found := shutil.which(name))]
    if conda := os.environ.get("CONDA_PREFIX"):
        paths.append(f"{conda}/bin/python3")
    paths += sorted(str(p) for p in (Path.home() / ".pyenv" / "versions").glob("3.1[12].*/bin/python3"))
    seen = set()
    for path in paths:
        real = os.path.realpath(path)
        if Path(real).exists() and real not in seen:
            seen.add(real)
            yield path


def _build(environment: EngineEnvironment, report: Report) -> None:
    """Build beside the final place and move there at the end, so that a half-built one is never used."""
    engines = environment.folder.parent
    # Of a build that was killed, and no other: we hold the lock.
    for leftover in engines.glob(f"{environment.folder.name}.building-*"):
        _remove(leftover)
    check_room(engines)
    draft = Path(tempfile.mkdtemp(prefix=f"{environment.folder.name}.building-", dir=engines))
    try:
        report(f"making a Python {environment.interpreter.minor} environment", 0.0)
        # virtualenv and not venv: it needs no python3-venv package. Its cache stays in the draft and goes with it.
        _run(
            [sys.executable, "-m", "virtualenv", "--quiet", "--app-data", draft / "app-data",
             "--python", environment.interpreter.path, draft / "env"],
        )  # fmt: skip
        pinned = draft / "requirements.txt"
        requirements = _requirements()
        pinned.write_text(requirements)
        count = len(re.findall(r"^[\w-]+.*==", requirements, re.MULTILINE))
        _run(
            [draft / "env" / "bin" / "python3", "-m", "pip", "install", "--no-deps", "--disable-pip-version-check",
             "--no-input", "--progress-bar=off", "--no-warn-script-location", "--requirement", pinned],
            _PipProgress(count, report),
        )  # fmt: skip
        packages = environment.site_packages.relative_to(environment.folder)
        (draft / "env" / packages / "tritonnb.pth").write_text(_STARTUP)
        (draft / "env").rename(environment.folder)
    finally:
        _remove(draft)
    report("engine built", 1.0)


def _remove(folder: Path) -> None:
    """Remove a folder; again when a step's child, killed with it, still wrote into it for a moment."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


class _PipProgress:
    """Turns pip's lines into progress: collecting is most of the way, installing the rest."""

    def __init__(self, count: int, report: Report) -> None:
        self._count = count
        self._report = report
        self._collected = 0

    def __call__(self, line: str) -> None:
        if line.startswith(("Collecting ", "Processing ")):
            self._collected += 1
            package = Path(line.split()[1]).name.partition("==")[0]
            self._report(f"getting {package}", 0.05 + 0.65 * self._collected / self._count)
        elif line.startswith("Installing collected"):
            self._report(f"installing {self._count} packages", 0.75)


def _run(command: list[str | Path], on_line: Callable[[str], None] | None = None) -> None:
    """Run a step of the build; on failure and on Ctrl-C nothing of it goes on."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as step:
        try:
            for line in step.stdout or ():
                lines.append(line.rstrip())
                if on_line:
                    on_line(line)
        except BaseException:
            step.kill()
            raise
    if step.returncode:
        raise _build_error(lines)


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


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
