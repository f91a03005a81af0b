"""Extra packages for the Python of a container's image: fetched here as wheels, mounted there.

The overlay has the shape of a virtual environment of the image's Python, which does not run here. In the container its
``bin`` is first on PATH, so Triton's stub takes it for its Python's home, and the image's packages come behind its own.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.environments.building import StepError, make_virtual_environment, move_programs, run_step
from tritonnb.environments.pip import Base, PipProgress, addresses, pip_error, pip_install, pip_variables
from tritonnb.environments.wanted import Wanted
from tritonnb.requirements import local_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tritonnb.environments.building import Report

#: What the image's server and backends run on.
HELD = ("numpy", "onnxruntime")
_OLDEST_GLIBC = 5  # 2.5, of manylinux1

# Behind the overlay's packages come the image's, also those that a .pth file of the image puts before all others.
_STARTUP = """\
import site, sys; ours = {ours!r}; at = sys.path.index(ours); list(map(site.addsitedir, {images!r})); \
sys.path.remove(ours); sys.path.insert(at, ours)
"""


_SHAPE = """\
home = {home}
include-system-site-packages = false
"""


@dataclass(frozen=True)
class ImagePython:
    """The Python of an image, as it describes itself.

    Parameters
    ----------
    executable
        Its path in the image.
    site_packages
        The folders of its packages in the image.
    packages
        Their versions.
    markers
        What a requirement's markers are judged by: ``python_full_version``, ``platform_machine`` and so on.
    glibc
        Such as ``2.39``; empty where it has none.
    """

    executable: str
    site_packages: tuple[str, ...]
    packages: Mapping[str, str]
    markers: Mapping[str, str]
    glibc: str

    @property
    def minor(self) -> str:
        """The release series, such as ``3.12``."""
        return self.markers["python_version"]

    @property
    def platforms(self) -> list[str]:
        """The platforms whose wheels it takes, in pip's words, the best first."""
        machine = self.markers["platform_machine"]
        newest = int(self.glibc.partition(".")[2] or 0)
        manylinux = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
        return [*manylinux, f"manylinux2014_{machine}", f"linux_{machine}"]


def image_overlay(pip: Iterable[str], python: ImagePython, report: Report) -> Path:
    """Return the folder of the overlay that has these packages for an image's Python, built first where it is missing.

    Parameters
    ----------
    pip
        The packages, as `tritonnb.requirements.requirements` takes them; at least one.
    python
        The image's.
    report
        Told how the build goes.

    Raises
    ------
    SpecError
        A requirement is malformed, or names a file that is not there.
    EnvironmentBuildError
        A package, which is named, cannot be had as a wheel or does not go with the others; nothing is left of it.
    """
    wanted = Wanted.of(pip)
    folder = wanted.folder(f"image-py{python.minor}", [asdict(python), HELD, _STARTUP, _SHAPE])
    wanted.build(folder, partial(_build, wanted, python, folder, report), report)
    return folder


def _build(wanted: Wanted, python: ImagePython, folder: Path, report: Report, draft: Path) -> None:
    report(f"making an environment for {wanted}", None)
    inner = Path("lib", f"python{python.minor}", "site-packages")
    packages = draft / "env" / inner
    packages.mkdir(parents=True)
    held = tuple(f"{name}=={python.packages[name]}" for name in HELD if name in python.packages)
    try:
        tools = make_virtual_environment(draft, Path(sys.executable), "--no-setuptools", name="tools")
        pip, plan = _pip(tools, python, draft), draft / "plan.json"
        wishes = [*held, *_as_wheels(wanted.from_copies(draft), tools, draft)]
        run_step([*pip, "--dry-run", "--report", plan, *wishes], PipProgress(report), pip_variables())
        if missing := addresses(json.loads(plan.read_text())):
            run_step([*pip, "--no-deps", "--target", packages, *missing], PipProgress(report), pip_variables())
    except StepError as failed:
        image = Base(
            name="the image",
            python=f"Python {python.minor} on {python.markers['platform_machine']}",
            packages=frozenset(python.packages),
            held=held,
            why="what else is in the image was made for these",
            note="; for a container packages are taken as wheels, and `pip wheel NAME` makes one",
        )
        raise pip_error(failed.lines, str(wanted), image) from None
    (packages / "tritonnb.pth").write_text(_STARTUP.format(ours=str(folder / inner), images=python.site_packages))
    programs = draft / "env" / "bin"
    if (packages / "bin").exists():
        (packages / "bin").rename(programs)
    move_programs(programs, tools, folder)
    (programs / "python3").symlink_to(python.executable)
    (draft / "env" / "pyvenv.cfg").write_text(_SHAPE.format(home=Path(python.executable).parent))


def _pip(tools: Path, python: ImagePython, draft: Path) -> list[str | Path]:
    """Return the beginning of a command that installs for the image's Python."""
    known = draft / "metadata"
    for name, version in python.packages.items():
        if not _is_version(version):  # a distribution's own package may have any
            continue
        about = known / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    with as_file(files("tritonnb").joinpath("foreign", "pip_elsewhere.py")) as program:
        shutil.copy(program, draft)
    _, _, _, *install = pip_install(tools / "bin" / "python3")
    return [
        tools / "bin" / "python3", draft / "pip_elsewhere.py", json.dumps(dict(python.markers)), known, *install,
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python.markers['python_full_version']}",
        *(f"--platform={platform}" for platform in python.platforms),
    ]  # fmt: skip


def _is_version(text: str) -> bool:
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415  (only where something is built)

    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _as_wheels(wishes: Iterable[str], tools: Path, draft: Path) -> list[str]:
    """Return the requirements with local projects built: for another Python pip takes wheels alone."""
    found = []
    for number, wish in enumerate(wishes):
        source = local_source(wish)
        if source and source.suffix != ".whl":
            wheels = draft / "wheels" / str(number)
            pip = (tools / "bin" / "python3", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", wheels)
            run_step([*pip, source], None, pip_variables())
            extras = re.search(r"\[[\w.,\s-]*\]", wish.replace(str(source), ""))
            found += [f"{wheel}{extras[0] if extras else ''}" for wheel in wheels.iterdir()]
        else:
            found.append(wish)
    return found
