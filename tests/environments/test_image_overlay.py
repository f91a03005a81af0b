"""Packages for the Python of a container's image are fetched here by what that Python is, not by this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wheels import write_wheel

from tritonnb.environments import ImagePython, image_overlay
from tritonnb.errors import EnvironmentBuildError

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.14.1",
    "os_name": "posix",
    "platform_machine": "aarch64",
    "platform_python_implementation": "CPython",
    "platform_release": "6.1",
    "platform_system": "Linux",
    "platform_version": "1",
    "python_full_version": "3.14.1",
    "python_version": "3.14",
    "sys_platform": "linux",
}
#: Of a release and a machine that the tests do not run on.
IMAGE = ImagePython(
    executable="/opt/python/bin/python3.14",
    site_packages=("/opt/python/lib/python3.14/site-packages",),
    packages={"numpy": "2.3.4", "ml-dtypes": "0.5.4"},
    markers=MARKERS,
    glibc="2.39",
)


@pytest.fixture(autouse=True)
def wheels(tmp_path, monkeypatch):
    """Return a folder of wheels where pip finds packages, and nowhere else; tritonnb's home is the test's own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def built(*pip):
    return image_overlay(pip, IMAGE, lambda _text, _fraction: None)


def packages_in(folder):
    return {path.stem for path in (folder / "lib" / "python3.14" / "site-packages").glob("*.dist-info")}


def test_wheels_markers_and_what_is_there_are_those_of_the_image(wheels):
    write_wheel(
        wheels,
        "tnbone",
        requires=["numpy>=2", "tnbnew; python_version>='3.14'", "tnbold; python_version<'3.14'", "ml_dtypes"],
        program="tnbone",
        code="def main(): pass",
    )
    write_wheel(wheels, "tnbnew", "1.0", tag="cp314-cp314-manylinux_2_39_aarch64")
    write_wheel(wheels, "tnbnew", "2.0", tag="cp314-cp314-manylinux_2_40_aarch64")
    write_wheel(wheels, "tnbnew", "3.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    folder = built("tnbone", "numpy>2")
    assert packages_in(folder) == {"tnbone-1.0", "tnbnew-1.0"}
    assert built("numpy>2", "tnbone") == folder
    assert str((folder / "bin" / "python3").readlink()) == IMAGE.executable
    assert f"{folder}/bin/python" in (folder / "bin" / "tnbone").read_text()
    assert (folder / "pyvenv.cfg").read_text().startswith("home = /opt/python/bin\n")


def test_a_project_of_ones_own_is_built_and_left_as_it_is(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "tnbown"\nversion = "1.2"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (project / "backend.py").write_text(
        "import sys, pathlib\n"
        f"sys.path.append({str(Path(__file__).parent.parent / 'plugins')!r})\n"
        "from wheels import write_wheel\n"
        "def build_wheel(folder, *_): return write_wheel(pathlib.Path(folder), 'tnbown', '1.2').name\n"
    )
    before = {path.name for path in project.iterdir()}
    assert packages_in(built(str(project))) == {"tnbown-1.2"}
    assert {path.name for path in project.iterdir()} == before


def test_a_package_that_wants_another_numpy_than_the_image_has_is_named(wheels):
    write_wheel(wheels, "tnbold", requires=["numpy<2"])
    with pytest.raises(EnvironmentBuildError) as caught:
        built("tnbold")
    assert "the image keeps numpy==2.3.4; tnbold 1.0 depends on numpy<2" in caught.value.message
    assert "what else is in the image was made for these" in caught.value.hint


def test_a_package_without_a_wheel_for_the_image_is_named(wheels):
    write_wheel(wheels, "tnbone", tag="cp311-cp311-manylinux_2_17_x86_64")
    with pytest.raises(EnvironmentBuildError, match="there is no package 'tnbone' where pip looks") as caught:
        built("tnbone")
    assert "`pip wheel NAME` makes one" in caught.value.hint
    with pytest.raises(EnvironmentBuildError, match="is not a supported wheel") as caught:
        built(str(next(wheels.iterdir())))
    assert "it must be for Python 3.14 on aarch64" in caught.value.hint
