"""What every test session has: a home of its own, stable outputs, reasons for skips, a check of what is left.

It stands beside ``tests`` and ``notebooks`` because it serves both. Environment variables that it reads:

TRITONNB_TEST_HOME
    tritonnb's home during the tests, kept afterwards, so that the next session finds the engine built.
    Without it the home is a temporary folder.
TRITONNB_REQUIRE
    Comma-separated capabilities that must be there: a test that needs one then fails and is not skipped.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import pytest

pytest_plugins = ["docker_session", "docker_registry"]

SHARED_MEMORY = Path("/dev/shm")
REGION_PREFIX = "tritonnb_"
SESSION = "TRITONNB_TEST_SESSION"
# A killed kernel's supervisor gives the server a second to end by itself, and as much to its process group.
PATIENCE_S = 5.0

TEMPORARY_HOME = pytest.StashKey[Path]()
LEFT_BEFORE = pytest.StashKey[frozenset[str]]()


def pytest_configure(config):
    config.addinivalue_line("markers", "requires(capability): skipped, with the reason, where it is missing")
    # A shell's background job ignores Ctrl-C, and all its children with it; the tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = os.environ.get("TRITONNB_TEST_HOME")
    if not home:
        home = tempfile.mkdtemp(prefix="tritonnb-tests-")
        config.stash[TEMPORARY_HOME] = Path(home)
    # Set before collection: the notebooks' kernels and all other children inherit them.
    os.environ["TRITONNB_HOME"] = str(Path(home).absolute())
    os.environ[SESSION] = uuid.uuid4().hex
    os.environ["TRITONNB_STABLE_OUTPUT"] = "1"
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    os.environ["TRITONNB_ENGINE"] = "embedded"  # what `auto` means, whatever daemon this machine has
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests run onnxruntime themselves
    config.stash[LEFT_BEFORE] = frozenset(left_behind())


def pytest_unconfigure(config):
    if (home := config.stash.get(TEMPORARY_HOME, None)) is not None:
        shutil.rmtree(home, ignore_errors=True)


def pytest_itemcollected(item):
    if item.path.suffix == ".ipynb":
        needs = item.parent.nb.metadata.get("tritonnb", {}).get("needs", ["engine"])
        item.add_marker(pytest.mark.requires(*needs))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    required = os.environ.get("TRITONNB_REQUIRE", "").split(",")
    for mark in item.iter_markers("requires"):
        for capability in mark.args:
            reason = why_missing(capability)
            if reason and capability in required:
                pytest.fail(f"TRITONNB_REQUIRE names {capability!r}, but: {reason}", pytrace=False)
            if reason:
                pytest.skip(reason)


@functools.cache
def why_missing(capability: str) -> str:
    """Return why this machine lacks a capability, empty where it has it."""
    if capability == "engine":
        from tritonnb.environments import find_interpreter
        from tritonnb.errors import EngineError

        try:
            find_interpreter()
        except EngineError as error:
            return str(error)
        return ""
    if capability == "docker":
        from docker_session import DOCKER

        return DOCKER.missing()
    if capability == "podman":
        from podman_service import missing

        return missing()
    if capability == "browser":
        from browser import why_no_browser

        return why_no_browser()
    if capability in ("openssl", "docker-registry"):
        return (
            "" if shutil.which(capability) else f"{capability} is not installed (Debian: apt-get install {capability})"
        )
    known = ("browser", "docker", "docker-registry", "engine", "openssl", "podman")
    raise ValueError(f"unknown capability {capability!r}; known: {', '.join(known)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a cell that ended in a bare UsageError: IPython gives it no error output, so nbval passes it."""
    result = yield
    for output in getattr(item, "test_outputs", None) or []:
        if output.get("name") == "stderr" and output["text"].startswith("UsageError"):
            item.raise_cell_error(f"The cell failed: {output['text']}")
    return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Report what the tests left running or lying about as an error; fixtures and kernels are gone by now."""
    before = session.config.stash[LEFT_BEFORE]
    deadline = time.monotonic() + PATIENCE_S
    while (left := left_behind() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    if not left:
        return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    session.testsfailed += 1
    report = pytest.TestReport(
        nodeid="left behind by the tests",
        location=("", None, ""),
        keywords={},
        outcome="failed",
        longrepr="The tests left behind:\n" + "\n".join(f"  {thing}" for thing in sorted(left)),
        when="teardown",
    )
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reporter.stats.setdefault("error", []).append(report)


def left_behind() -> set[str]:
    """Return what tests may leave: processes, and deployments and shared memory that no process has any more."""
    left = set()
    in_use = set()
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            in_use.update(command)
            if os.access(maps := Path(f"/proc/{process.pid}/maps"), os.R_OK):
                in_use |= {
                    line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines() if REGION_PREFIX in line
                }
            # The variable marks whatever descends from this session, however it was started and whoever adopted it.
            if process.environ().get(SESSION) == os.environ[SESSION]:
                left.add(f"process {process.pid}: {' '.join(command)}")
        except (psutil.Error, OSError):  # it ended in the meantime, or is another user's
            continue
    deployments = [*Path(os.environ["TRITONNB_HOME"]).glob("deployments/*")]
    deployments += Path(os.environ["TRITONNB_HOME"]).glob("score/*")
    regions = (region for region in SHARED_MEMORY.glob(f"{REGION_PREFIX}*") if os.access(region, os.W_OK))
    from docker_session import DOCKER  # a plugin: imported by pytest after this file

    left |= DOCKER.left()
    return left | {str(path) for path in (*deployments, *regions) if str(path) not in in_use}
