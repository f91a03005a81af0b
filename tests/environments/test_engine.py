"""The engine environment is found, built at one stroke, shared, and explained when it cannot be had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritonnb.environments import engine, engine_environment, find_interpreter, interpreter
from tritonnb.environments.pip import PipProgress
from tritonnb.errors import EngineError, EnvironmentBuildError, HomeError

BUILD = "from tritonnb.environments import engine_environment; print(engine_environment().folder)"


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_named_python_that_does_not_fit_is_an_error_that_says_what_was_tried(monkeypatch):
    monkeypatch.setenv("TRITONNB_PYTHON", "/nowhere/python3")
    with pytest.raises(EngineError, match=r"Tried: /nowhere/python3 \(does not run\)") as caught:
        find_interpreter()
    assert "TRITONNB_PYTHON" in caught.value.hint


def test_a_python_without_a_shared_library_is_told_apart_from_one_of_another_release(monkeypatch, tmp_path):
    answers = {"static": "[3, 11, 4]", "newer": "[3, 13, 0]"}
    for name, version in answers.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho \'["{program}", {version}, ""]\'\n')
        program.chmod(0o755)
    monkeypatch.setattr(interpreter, "_candidates", lambda: [str(tmp_path / name) for name in answers])
    with pytest.raises(EngineError) as caught:
        find_interpreter()
    assert "static (no shared libpython of its own)" in caught.value.message
    assert "newer (3.13.0)" in caught.value.message


@pytest.mark.requires("engine")
def test_the_interpreter_that_is_found_owns_a_library_of_its_own_patch_release():
    found = find_interpreter()
    assert found.version[:2] in interpreter.PYTHONS
    assert found.library.name == f"libpython{found.minor}.so.1.0"
    assert found.library.exists()


@pytest.mark.requires("engine")
def test_a_build_without_packages_says_so_and_leaves_nothing(empty_home, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(EnvironmentBuildError, match="could not be built: ERROR: Could not find a version") as caught:
        engine_environment()
    assert "PIP_FIND_LINKS" in caught.value.hint
    assert [path.suffix for path in (empty_home / "engines").iterdir()] == [".lock"]


@pytest.mark.requires("engine")
def test_a_disk_without_room_is_told_before_anything_is_fetched(empty_home, monkeypatch):
    monkeypatch.setattr(engine, "ROOM_MB", 10**9)
    with pytest.raises(EnvironmentBuildError, match="MB are free") as caught:
        engine_environment()
    assert "TRITONNB_HOME" in caught.value.hint


@pytest.mark.requires("engine")
def test_a_home_that_cannot_be_made_is_told_with_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(HomeError, match="cannot be used: Not a directory") as caught:
        engine_environment()
    assert "TRITONNB_HOME" in caught.value.hint


@pytest.mark.requires("engine")
def test_a_killed_build_is_never_used_and_two_builders_at_once_share_one_engine(empty_home):
    with subprocess.Popen([sys.executable, "-c", BUILD], start_new_session=True) as killed:
        while not list(empty_home.glob("engines/*.building-*/env/bin/python3")):
            assert killed.poll() is None, "the build ended before it could be killed"
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
    assert not list(empty_home.glob("engines/*/bin"))

    builders = [subprocess.Popen([sys.executable, "-c", BUILD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {builder.communicate()[0].strip() for builder in builders}
    assert len(folders) == 1
    engine = Path(folders.pop())
    assert engine_environment().folder == engine
    assert {path.name for path in engine.parent.iterdir()} == {engine.name, f"{engine.name}.lock"}
    assert engine_environment().tritonserver.exists()
    assert all(file.exists() for file in engine_environment().backend_files)
    shutil.rmtree(empty_home)


@pytest.mark.requires("engine")
def test_ctrl_c_during_a_build_leaves_nothing(empty_home):
    with subprocess.Popen([sys.executable, "-c", BUILD], start_new_session=True, stderr=subprocess.DEVNULL) as builder:
        while not list(empty_home.glob("engines/*.building-*/env/bin/python3")):
            assert builder.poll() is None, "the build ended before it could be interrupted"
            time.sleep(0.01)
        os.killpg(builder.pid, signal.SIGINT)
    assert not list(empty_home.glob("engines/*.building-*"))


def test_progress_names_the_package_and_grows():
    told = []
    progress = PipProgress(lambda text, fraction: told.append((text, fraction)), 2)
    for line in (
        "Looking in links: /wheels",
        "Collecting numpy==1.26.4 (from -r x)",
        "Processing /wheels/onnxruntime-1.32.0-cp311.whl",
        "Installing collected packages: numpy",
    ):
        progress(line)
    assert [text for text, _ in told] == [
        "getting numpy",
        "getting onnxruntime-1.32.0-cp311.whl",
        "installing 2 packages",
    ]
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
