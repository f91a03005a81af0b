"""An entry script ends with its kernel, and Interrupt ends a cell that waits for its ``init()``."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytestmark = pytest.mark.requires("engine")

WITHIN_S = 3.0
SCRIPT = "def init(): pass\ndef run(data): return data\n"
GATED = """\
import os, time
from pathlib import Path
def init():
    (Path({gate!r}) / "reached").touch()
    while not (Path({gate!r}) / "open").exists():
        time.sleep(0.005)
def run(data): return "new"
"""


@pytest.fixture
def gate(tmp_path):
    """A folder: ``reached`` is there once init() waits, ``open`` lets it go on."""
    (tmp_path / "gate").mkdir()
    return tmp_path / "gate"


def interrupt(kernel, cell):
    began = time.monotonic()
    kernel.manager.interrupt_kernel()
    outcome = kernel.outcome(cell, WITHIN_S)
    assert time.monotonic() - began < WITHIN_S
    assert outcome.ename == "Interrupted"
    return outcome.evalue


@pytest.mark.parametrize("how", ["SIGKILL", "restart now"])
def test_nothing_is_left_three_seconds_after_the_kernel_s_end(new_kernel, deployed, eventually, how):
    kernel = new_kernel()
    left = deployed(kernel)
    kernel.run(f"%%triton_score {left.name} --port 0 --workers 2\n{SCRIPT}")
    port = int(kernel.run("print(dep.scoring_uri)").split(":")[-1].partition("/")[0])
    left = type(left)(left.name, (*left.ports, port))
    assert kernel.run("print(dep.run('[1]'))") == "[1]\n"

    if how == "SIGKILL":
        os.kill(kernel.pid, signal.SIGKILL)
    else:
        kernel.restart()

    assert eventually(lambda: not left(), within=WITHIN_S), left()


def test_killed_during_init_the_kernel_leaves_nothing(new_kernel, deployed, eventually, gate):
    kernel = new_kernel()
    left = deployed(kernel)
    kernel.begin(f"%%triton_score {left.name} --port 0\n{GATED.format(gate=str(gate))}")
    assert eventually((gate / "reached").exists)

    os.kill(kernel.pid, signal.SIGKILL)

    assert eventually(lambda: not left(), within=WITHIN_S), left()


def test_interrupt_during_init_leaves_the_script_of_before_or_none(kernel, deployed, eventually, gate):
    left = deployed(kernel)
    slow = f"%%triton_score {left.name} --port 0\n{GATED.format(gate=str(gate))}"
    said = f"the change of deployment '{left.name}' was given up; it serves as before."

    cell = kernel.begin(slow)
    assert eventually((gate / "reached").exists)
    assert interrupt(kernel, cell) == said
    assert kernel.run("print(dep.swagger_uri, dep.state)") == " ready\n"

    kernel.run(f"%%triton_score {left.name} --port 0\n{SCRIPT}")
    (gate / "reached").unlink()
    cell = kernel.begin(slow)
    assert eventually((gate / "reached").exists)
    assert interrupt(kernel, cell) == said
    assert kernel.run("print(dep.run('[1]'), dep.health().script)") == "[1] ready, 1 worker\n"

    (gate / "open").touch()
    kernel.run(slow)
    assert kernel.run("print(dep.run('[1]'))") == "new\n"
    kernel.run("dep.delete()")
    assert not left()


def test_interrupt_of_a_deployment_that_waits_for_init_leaves_nothing(
    kernel, traces, models, eventually, gate, tmp_path
):
    (tmp_path / "score.py").write_text(GATED.format(gate=str(gate)))
    cell = kernel.begin(
        f"%triton_deploy {models} --name {traces.name} --engine embedded"
        f" --entry-script score.py --source-directory {tmp_path} --score-port 0"
    )
    assert eventually((gate / "reached").exists)

    said = interrupt(kernel, cell)

    assert said == f"deployment '{traces.name}' was stopped; nothing of it is left."
    assert not traces()


def test_a_restart_that_is_interrupted_leaves_server_and_script_as_they_were(
    kernel, traces, models, eventually, gate, tmp_path
):
    (gate / "open").touch()
    (tmp_path / "score.py").write_text(GATED.format(gate=str(gate)))
    kernel.run(
        f"dep = tn.deploy({str(models)!r}, name='{traces.name}', engine='embedded', entry_script='score.py',"
        f" source_directory={str(tmp_path)!r}, port=0)\nuri, before = dep.scoring_uri, dep.url"
    )
    for path in gate.iterdir():
        path.unlink()
    cell = kernel.begin("dep.restart()")
    assert eventually((gate / "reached").exists)

    interrupt(kernel, cell)

    assert kernel.run("print(dep.run('[1]'), dep.state, dep.url == before, dep.scoring_uri == uri)") == (
        "new ready True True\n"
    )
    kernel.run("dep.delete()")
    assert not traces()
