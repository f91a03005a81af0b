"""However a kernel ends, nothing of its deployments is left three seconds later."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil
import pytest

pytestmark = pytest.mark.requires("engine")

WITHIN_S = 3.0


@pytest.fixture
def nothing_is_left(eventually):
    """Wait for the end of a deployment that nobody deletes any more."""

    def check(left):
        assert eventually(lambda: not left(), within=WITHIN_S), left()

    return check


# Each leaves the process id of a child of the kernel, or 0, in `child`.
COMPANY = {
    "alone": "child = 0",
    # In a session of its own, so that it lives on when a front end kills the kernel's whole process group.
    "beside a forked child": """
import os, time
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(600)
    os._exit(0)
""",
    # As a DataLoader's worker: forked, with a queue to the kernel.
    "beside a worker": """
import multiprocessing
context = multiprocessing.get_context("fork")
tasks, answers = context.Queue(), context.Queue()
def work():
    for task in iter(tasks.get, None):
        answers.put(task)
worker = context.Process(target=work, daemon=True)
worker.start()
tasks.put(1)
answers.get()
child = worker.pid
""",
}

ENDS = {
    "SIGKILL": lambda kernel: os.kill(kernel.pid, signal.SIGKILL),
    "SIGTERM": lambda kernel: os.kill(kernel.pid, signal.SIGTERM),
    "restart now": lambda kernel: kernel.manager.restart_kernel(now=True),
    "shutdown": lambda kernel: kernel.manager.shutdown_kernel(),
}


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def child_of(kernel, company: str):
    """Let the kernel have a child, and end it afterwards."""
    kernel.run(COMPANY[company])
    pid = int(kernel.run("print(child)"))
    try:
        yield pid
    finally:
        if pid and lives(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("end", "company"),
    [
        ("SIGKILL", "alone"),
        ("SIGKILL", "beside a forked child"),
        ("SIGKILL", "beside a worker"),
        ("SIGTERM", "alone"),
        ("SIGTERM", "beside a worker"),
        ("restart now", "alone"),
        ("restart now", "beside a forked child"),
        ("shutdown", "alone"),
        ("shutdown", "beside a forked child"),
    ],
)
def test_nothing_is_left_three_seconds_after_the_kernels_end(new_kernel, deployed, nothing_is_left, end, company):
    kernel = new_kernel()
    left = deployed(kernel)
    with child_of(kernel, company) as child:
        ENDS[end](kernel)
        nothing_is_left(left)
        assert not child or lives(child), "the test is about a child that lives on"


def test_nothing_is_left_when_the_kernel_is_killed_in_the_middle_of_deploying(
    new_kernel, gated, eventually, nothing_is_left
):
    kernel = new_kernel()
    models, gate, left = gated("initialize")
    kernel.begin(f"%triton_deploy {models} --name {left.name} --engine embedded")
    assert eventually(gate.reached)
    assert left()
    os.kill(kernel.pid, signal.SIGKILL)
    nothing_is_left(left)


def test_killing_a_kernel_leaves_the_deployments_of_another_alone(new_kernel, kernel, deployed, nothing_is_left):
    doomed = new_kernel()
    others = deployed(kernel)
    left = deployed(doomed)
    before = others()
    os.kill(doomed.pid, signal.SIGKILL)
    nothing_is_left(left)
    assert others() == before
    assert kernel.run(f"print(tn.deployment('{others.name}').infer('echo', {{'x': x}})['y'])") == "[0. 1. 2. 3.]\n"
    kernel.run(f"%triton_delete {others.name}")
    assert not others()


def test_deploying_one_name_and_killing_the_kernel_again_and_again_leaves_the_machine_as_it_was(
    new_kernel, deployed, nothing_is_left, unused_name
):
    kernel = new_kernel()
    # TRITONNB_CYCLES=50 for a long look; each takes about three seconds.
    for _ in range(int(os.environ.get("TRITONNB_CYCLES", "5"))):
        left = deployed(kernel, unused_name)
        assert kernel.run("answer = %triton_infer echo x=$x\nprint(answer['y'])") == "[0. 1. 2. 3.]\n"
        kernel.restart()
        nothing_is_left(left)
