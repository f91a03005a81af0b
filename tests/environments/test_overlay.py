"""Extra packages are one environment for each content, on the engine's, and whatever fails is named."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from wheels import write_wheel

from tritonnb.environments import engine_environment, overlay
from tritonnb.errors import EnvironmentBuildError, SpecError

pytestmark = pytest.mark.requires("engine")


@pytest.fixture(autouse=True)
def wheels(tmp_path, monkeypatch):
    """Return a folder of wheels where pip finds packages, and nowhere else."""
    engine_environment()  # while there is all else
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture(autouse=True)
def overlays(tmp_path, monkeypatch):
    """Return the overlays' folder in a home of this test's own, with the session's engine."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "engines").symlink_to(engine_environment().folder.parent)
    monkeypatch.setenv("TRITONNB_HOME", str(home))
    return home / "overlays"


def said_by(environment, *command):
    done = subprocess.run(command, env=environment.variables(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_its_packages_stand_beside_those_of_the_engine_and_its_programs_run(wheels):
    write_wheel(wheels, "tnbone", program="tnbone", code="def main(): print('ran', VERSION)")
    made = overlay(["tnbone"])
    code = "import tnbone, numpy, uvicorn, tritonclient.http; print(tnbone.VERSION, numpy.__version__)"
    assert said_by(made, "python3", "-c", code) == "1.0 1.26.4"
    assert said_by(made, str(made.python), "-c", code) == "1.0 1.26.4"
    assert said_by(made, "tnbone") == "ran 1.0"
    assert not list(engine_environment().site_packages.glob("tnbone*"))


def test_without_packages_it_is_the_engine_itself():
    assert overlay(()) == engine_environment()


def test_the_same_packages_in_any_order_and_spelling_are_built_once(wheels, overlays):
    for name in ("tnb_one", "tnbtwo"):
        write_wheel(wheels, name)
    first = overlay(["tnbtwo", "TNB-One>=1,<2"])
    shutil.rmtree(wheels)  # nothing is looked for again
    assert overlay(["tnb.one <2,>=1", "tnbtwo"]) == first
    assert {path.name for path in overlays.iterdir()} == {first.folder.name, f"{first.folder.name}.lock"}


def test_a_wheel_by_its_path_is_another_environment_when_its_content_changes(tmp_path):
    wheel = write_wheel(tmp_path, "tnbone", code="x = 1")
    first = overlay([str(wheel)])
    write_wheel(tmp_path, "tnbone", code="x = 2")
    second = overlay([str(wheel)])
    print_x = ("python3", "-c", "import tnbone; print(tnbone.x)")
    assert (said_by(first, *print_x), said_by(second, *print_x)) == ("1", "2")


@pytest.mark.parametrize(
    ("pip", "message", "hint"),
    [
        (
            ["tnbnone"],
            "there is no package 'tnbnone' where pip looks",
            "check its name; pip looks where its settings say",
        ),
        (
            ["tnbone==7"],
            "there is no 'tnbone==7' for Python {python} on Linux x86-64: the latest are 1.0, 2.0",
            "choose one of the versions that exist",
        ),
        (["tnblacks"], "there is no package 'tnbnone>3' (tnblacks asks for it) where pip looks", "check its name"),
        (
            ["tnbold", "tnbnew"],
            "its packages do not go together: tnbnew 1.0 depends on tnbone>=2; tnbold 1.0 depends on tnbone<2",
            "loosen or change one",
        ),
        (
            ["tnbnumpy"],
            "its packages do not go together: the engine keeps numpy==1.26.4; tnbnumpy 1.0 depends on numpy>=2",
            "under numpy 2 the stub sends empty tensors): choose versions that go with them",
        ),
        (
            ["uvicorn==0.1"],
            "the engine keeps uvicorn==0.54.0; wanted is uvicorn==0.1",
            "Triton's Python stub and the score tier run on these",
        ),
        (
            ["{folder}/tnbfar-1.0-cp27-none-any.whl"],
            "tnbfar-1.0-cp27-none-any.whl is not a supported wheel on this platform",
            "it must be for Python 3.",
        ),
        (
            ["{folder}/source"],
            "source could not be built from its sources: ",
            "try another one, or build the wheel where",
        ),
    ],
)
def test_a_package_that_fails_is_named_with_the_reason_and_the_way_out(wheels, overlays, pip, message, hint):
    for version in ("1.0", "2.0"):
        write_wheel(wheels, "tnbone", version)
    write_wheel(wheels, "tnblacks", requires=["tnbnone>3"])
    write_wheel(wheels, "tnbold", requires=["tnbone<2"])
    write_wheel(wheels, "tnbnew", requires=["tnbone>=2"])
    write_wheel(wheels, "tnbnumpy", requires=["numpy>=2"])
    write_wheel(wheels, "tnbfar", tag="cp27-none-any")
    (wheels / "source").mkdir()
    (wheels / "source" / "setup.py").write_text("raise RuntimeError")
    with pytest.raises(EnvironmentBuildError) as caught:
        overlay([entry.format(folder=wheels) for entry in pip])
    assert message.format(python=engine_environment().interpreter.minor) in caught.value.message
    assert hint in caught.value.hint
    assert {path.suffix for path in overlays.iterdir()} == {".lock"}
    assert {path.name for path in (wheels / "source").iterdir()} == {"setup.py"}


NO_COMPILER = 'raise RuntimeError("no compiler here")'
METADATA = """\
import pathlib
def prepare_metadata_for_build_wheel(folder, *_):
    about = pathlib.Path(folder, "tnbsource-1.dist-info")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\\nName: tnbsource\\nVersion: 1\\n")
    return about.name
"""


@pytest.mark.parametrize(
    "backend",
    [
        f"def get_requires_for_build_wheel(*_): {NO_COMPILER}",
        f"def build_wheel(*_): {NO_COMPILER}",
        f"{METADATA}def build_wheel(*_): {NO_COMPILER}",
    ],
    ids=["requirements", "metadata", "wheel"],
)
def test_a_project_whose_build_fails_is_named_with_what_it_said(tmp_path, backend):
    write_project(tmp_path / "tnbsource", backend)
    with pytest.raises(EnvironmentBuildError, match=r"tnbsource could not be .*: RuntimeError: no compiler here\."):
        overlay([str(tmp_path / "tnbsource")])


def write_project(folder, backend):
    folder.mkdir()
    (folder / "backend.py").write_text(backend)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{folder.name}"\nversion = "1"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )


def test_an_index_that_does_not_answer_is_told_apart_from_a_package_that_is_not_there(monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    told = []
    with pytest.raises(EnvironmentBuildError, match="no package index could be reached for 'tnbone'") as caught:
        overlay(["tnbone"], lambda text, _: told.append(text))
    assert "PIP_FIND_LINKS" in caught.value.hint
    assert "the package index does not answer; trying again" in told


def test_a_file_that_is_not_there_is_told_before_anything_is_built(overlays):
    with pytest.raises(SpecError, match=r"There is no /nowhere/x-1\.0-py3-none-any\.whl"):
        overlay(["/nowhere/x-1.0-py3-none-any.whl"])
    assert not overlays.exists()


def test_the_callers_own_python_settings_lead_nowhere(wheels, tmp_path, monkeypatch):
    write_wheel(wheels, "tnbone")
    for name in ("PYTHONPATH", "PIP_TARGET"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    with_dist_info = Path(tmp_path, "PYTHONPATH", "tnbone-1.0.dist-info")
    with_dist_info.mkdir()
    (with_dist_info / "METADATA").write_text("Metadata-Version: 2.1\nName: tnbone\nVersion: 1.0\n")
    assert said_by(overlay(["tnbone"]), "python3", "-c", "import tnbone; print(tnbone.VERSION)") == "1.0"
    assert not list((tmp_path / "PIP_TARGET").iterdir())


SLOW_PROJECT = """\
import pathlib, time
def build_wheel(*_):
    pathlib.Path({mark!r}).touch()
    time.sleep(600)
"""


@pytest.fixture
def stuck(tmp_path):
    """Start a build of a project that never ends, in a process of its own; return it and the project's folder."""
    project, mark = tmp_path / "project", tmp_path / "building"
    write_project(project, SLOW_PROJECT.format(mark=str(mark)))
    program = f"from tritonnb.environments import overlay; overlay([{str(project)!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.DEVNULL, start_new_session=True
    ) as builder:
        while not mark.exists():
            assert builder.poll() is None, "the build ended before it could be interrupted"
            time.sleep(0.01)
        yield builder
        with contextlib.suppress(ProcessLookupError):
            os.killpg(builder.pid, signal.SIGKILL)


def test_ctrl_c_ends_a_build_with_all_its_processes_and_leaves_nothing(stuck, overlays):
    processes = psutil.Process(stuck.pid).children(recursive=True)
    assert len(processes) >= 2  # pip, and the project's own build
    stuck.send_signal(signal.SIGINT)  # as a notebook's kernel gets it: the build's processes do not
    stuck.wait()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    assert {path.suffix for path in overlays.iterdir()} == {".lock"}


def test_two_builders_at_once_share_one(wheels, overlays):
    write_wheel(wheels, "tnbone")
    build = "from tritonnb.environments import overlay; print(overlay(['tnbone']).folder)"
    builders = [subprocess.Popen([sys.executable, "-c", build], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {builder.communicate()[0].strip() for builder in builders}
    assert len(folders) == 1
    assert folders == {str(path) for path in overlays.iterdir() if path.is_dir()}


def test_progress_names_what_is_fetched_and_installed(wheels):
    write_wheel(wheels, "tnbone", requires=["tnbtwo"])
    write_wheel(wheels, "tnbtwo")
    told = []
    overlay(["tnbone"], lambda text, _: told.append(text))
    assert told == [
        "making an environment for tnbone",
        "getting tnbone-1.0-py3-none-any.whl",
        "getting tnbtwo-1.0-py3-none-any.whl",
        "installing 2 packages",
        "environment built",
    ]
