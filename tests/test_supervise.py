"""A supervised server never outlives its kernel, however the kernel ends."""

from __future__ import annotations

import gc
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tritonnb.errors import EngineError
from tritonnb.supervise import Job, SupervisedProcess

SHARED_MEMORY = Path("/dev/shm")

# A server with a child of its own, a shared-memory region and a folder, that does not listen to SIGTERM.
SERVER = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
child = subprocess.Popen(["sleep", "600"])
print("up", child.pid, flush=True)
time.sleep(600)
"""

# A kernel that starts the server and forks a child that lives on, as a DataLoader does.
KERNEL = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, os.getcwd())
from test_supervise import start
process = start(Path(sys.argv[1]), sys.argv[2])
forked = os.fork() if sys.argv[3] == "forks" else 0
if forked or sys.argv[3] != "forks":
    print(process.pid, process._supervisor.pid, forked, flush=True)
time.sleep(600)
"""


def start(folder: Path, prefix: str, code: str = SERVER, **options) -> SupervisedProcess:
    job = Job(
        command=[sys.executable, "-c", code, str(SHARED_MEMORY / f"{prefix}region")],
        environment=dict(os.environ),
        log=str(folder / "server.log"),
        shared_memory_prefix=prefix,
        owner=os.getpid(),
        grace_s=0.3,
        **options,
    )
    return SupervisedProcess.start(job, folder)


def eventually(condition, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # a zombie waits for the machine's init alone
    except psutil.NoSuchProcess:
        return False


def regions(prefix: str) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"{prefix}*"))


@pytest.fixture
def prefix():
    name = f"tritonnb_test-{secrets.token_hex(4)}_"
    yield name
    for region in regions(name):
        region.unlink()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "deployment"
    made.mkdir()
    return made


def is_up(folder: Path) -> bool:
    log = folder / "server.log"
    return log.exists() and log.read_text().startswith("up")


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("children", ["alone", "forks"])
def test_nothing_is_left_three_seconds_after_the_kernel_was_killed(folder, prefix, signal_number, children):
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, folder, prefix, children],
        cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with kernel:
        server, supervisor, forked = map(int, kernel.stdout.readline().split())
        assert eventually(lambda: is_up(folder))
        child = int((folder / "server.log").read_text().split()[1])
        kernel.send_signal(signal_number)
        gone = eventually(lambda: not any(map(runs, [server, child, supervisor])) and not regions(prefix), within=3)
        alive = [pid for pid in (server, child, supervisor) if runs(pid)]
        if forked:
            assert runs(forked), "the test is about a forked child that lives on"
            os.kill(forked, signal.SIGKILL)
    assert gone, f"left: {alive} {regions(prefix)}"
    assert not folder.exists()


def test_the_interrupt_of_the_kernels_process_group_does_not_reach_the_server(folder, prefix):
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, folder, prefix, "alone"],
        cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    with kernel:
        server, supervisor, _ = map(int, kernel.stdout.readline().split())
        groups = {os.getpgid(server), os.getpgid(supervisor)}
        assert os.getpgid(kernel.pid) not in groups
        kernel.kill()
    assert eventually(lambda: not runs(supervisor), within=3)


def test_stop_ends_a_server_that_ignores_sigterm_and_may_be_called_again(folder, prefix):
    process = start(folder, prefix)
    assert eventually(lambda: is_up(folder))
    assert process.exit_code() is None
    assert regions(prefix)
    process.stop()
    process.stop()
    assert not runs(process.pid)
    assert not regions(prefix)
    assert not folder.exists()


def test_a_server_that_ends_by_itself_leaves_its_exit_code_and_its_log_until_it_is_stopped(folder, prefix):
    process = start(folder, prefix, "import sys; print('no such model', flush=True); sys.exit(3)")
    assert eventually(lambda: process.exit_code() == 3)
    assert (folder / "server.log").read_text() == "no such model\n"
    process.stop()
    assert not folder.exists()


def test_a_server_killed_from_outside_is_told_by_its_signal(folder, prefix):
    process = start(folder, prefix)
    os.kill(process.pid, signal.SIGKILL)
    assert eventually(lambda: process.exit_code() == -signal.SIGKILL)
    process.stop()


def test_stop_cleans_up_even_when_somebody_killed_the_supervisor(folder, prefix):
    process = start(folder, prefix)
    assert eventually(lambda: is_up(folder))
    process._supervisor.kill()
    process._supervisor.wait()
    process.stop()
    assert eventually(lambda: not runs(process.pid))
    assert not regions(prefix)
    assert not folder.exists()


def test_only_the_user_may_read_the_job_because_it_holds_the_key(folder, prefix):
    process = start(folder, prefix)
    assert (folder / "job.json").stat().st_mode & 0o077 == 0
    assert json.loads((folder / "job.json").read_text())["owner"] == os.getpid()
    process.stop()


def test_a_program_that_is_not_there_is_an_error_that_says_so(folder):
    with pytest.raises(EngineError, match="No such file or directory: '/nowhere/tritonserver'"):
        SupervisedProcess.start(
            Job(["/nowhere/tritonserver"], {}, str(folder / "log"), "tritonnb_test-none_", os.getpid()), folder
        )


def test_a_server_that_fails_is_started_again_with_what_it_had_loaded_as_often_as_there_are_back_offs(folder, prefix):
    code = "import sys; print(sys.argv[2:], flush=True); sys.exit(3)"
    process = start(folder, prefix, code, restart=True, back_off_s=(0.2, 0.01, 0.01))
    # It failed before anything was loaded, and then tells of two models.
    assert eventually(lambda: process.pid == 0)
    assert process.exit_code() is None
    process.will_load(["one", "two"])
    assert eventually(lambda: process.exit_code() == 3)
    assert process.restarts == 3
    lines = (folder / "server.log").read_text().splitlines()
    assert lines == ["[]", *["['--load-model=one', '--load-model=two']"] * 3]
    process.stop()
    assert not folder.exists()


def test_a_server_that_failed_before_it_loaded_anything_is_started_again_with_nothing(folder, prefix):
    code = "import sys; print(sys.argv[2:], flush=True); sys.exit(3)"
    process = start(folder, prefix, code, restart=True, back_off_s=(0.01,))
    assert eventually(lambda: process.exit_code() == 3)
    assert (folder / "server.log").read_text() == "[]\n[]\n"
    process.stop()


def test_a_server_that_waits_to_be_started_again_can_be_stopped_at_once(folder, prefix):
    process = start(folder, prefix, "import sys; sys.exit(3)", restart=True, back_off_s=(600,))
    assert eventually(lambda: process.pid == 0)
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 3
    assert not folder.exists()


def test_a_process_found_from_elsewhere_tells_what_the_first_does_and_can_be_stopped(folder, prefix):
    process = start(folder, prefix)
    found = SupervisedProcess.attach(folder)
    assert (found.pid, found.restarts, found.exit_code()) == (process.pid, 0, None)
    found.stop()
    assert process.exit_code() is not None
    assert SupervisedProcess.attach(folder) is None


def test_a_handle_may_be_dropped_while_its_process_runs(folder, prefix):
    start(folder, prefix)
    gc.collect()  # a Popen that is collected while its process runs warns, and a warning is an error here
    SupervisedProcess.attach(folder).stop()
    assert not folder.exists()
