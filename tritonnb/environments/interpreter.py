"""The Python of this machine that the engine environment is made from.

It must own a shared libpython, because the server's Python stub loads that library, and the standard library that
goes with it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHONS = ((3, 11), (3, 12))  # for which the wheel has a stub and numpy 1.26 has a wheel
GLIBC = (2, 35)  # what the tritonserver of the wheel is linked against

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


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
