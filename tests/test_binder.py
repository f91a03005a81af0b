"""repo2docker's rules for the folder ``binder``, each of which it otherwise breaks in silence.

From https://repo2docker.readthedocs.io/en/latest/configuration/ and its sources (repo2docker/buildpacks).
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"


def lines(name: str) -> list[str]:
    """Return a file's lines without comments."""
    text = (BINDER / name).read_text()
    return [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]


def test_there_is_one_configuration_folder_and_nothing_that_overrules_it():
    assert not (ROOT / ".binder").exists()
    known = {"runtime.txt", "requirements.txt", "apt.txt", "postBuild"}
    assert {path.name for path in BINDER.iterdir()} == known


def test_the_python_is_one_that_the_project_and_the_engine_support():
    (line,) = lines("runtime.txt")
    version = re.fullmatch(r"python-(3\.\d+)", line)[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert version in {"3.11", "3.12"}


def test_the_project_is_installed_with_extras_that_exist_and_with_the_locked_versions():
    constraints, project = lines("requirements.txt")
    assert (BINDER / constraints.removeprefix("-c ")).resolve() == ROOT / "constraints.txt"
    extras = re.fullmatch(r"\.\[([\w,]+)\]", project)[1].split(",")
    assert set(extras) == set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_debian_packages_are_named_without_versions():
    assert all(re.fullmatch(r"[a-z0-9.+-]+", line) for line in lines("apt.txt"))


@pytest.mark.parametrize("script", ["postBuild"])
def test_scripts_are_executable_stop_at_the_first_error_and_are_right_bash(script):
    path = BINDER / script
    assert os.access(path, os.X_OK)
    text = path.read_text()
    assert text.startswith("#!/bin/bash\n")
    assert re.search(r"^set -e", text, re.MULTILINE)
    subprocess.run(["bash", "-n", path], check=True)


def test_the_packages_that_the_notebooks_ask_for_are_built_into_the_image():
    notebooks = "".join(path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb"))
    asked = set(re.findall(r"pip: \[(.*?)\]", notebooks))
    built = {
        packages.replace("'", "")
        for packages in re.findall(r"overlay\(\[(.*?)\]\)", (BINDER / "postBuild").read_text())
    }
    assert asked == built
