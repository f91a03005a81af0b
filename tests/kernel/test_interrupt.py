"""The Interrupt button ends a cell within two seconds, and with it what the cell began, but nothing else."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.requires("engine")

WITHIN_S = 2.0


@pytest.fixture(scope="module")
def bystander(kernel, deployed):
    """Return the traces of another deployment of the kernel, which no Interrupt may reach."""
    return deployed(kernel)


@pytest.fixture
def interrupted(kernel, bystander):
    """Press Interrupt while a cell runs and return its error, checked for what all of them have in common."""
    before = bystander()

    def interrupt(cell: str):
        began = time.monotonic()
        kernel.manager.interrupt_kernel()
        outcome = kernel.outcome(cell, WITHIN_S)
        assert time.monotonic() - began < WITHIN_S
        assert outcome.ename == "Interrupted"
        assert outcome.traceback == [f"Interrupted: {outcome.evalue}"]
        return outcome

    yield interrupt
    assert bystander() == before
    answer = kernel.run(f"print(tn.deployment('{bystander.name}').infer('echo', {{'x': x}})['y'])")
    assert answer == "[0. 1. 2. 3.]\n"


def test_interrupt_while_deploying_stops_what_was_begun(kernel, interrupted, gated, eventually):
    models, gate, left = gated("initialize")
    cell = kernel.begin(f"%triton_deploy {models} --name {left.name} --engine embedded")
    assert eventually(gate.reached)
    assert left()
    outcome = interrupted(cell)
    assert outcome.evalue == f"deployment '{left.name}' was stopped; nothing of it is left."
    assert not left()
    assert left.name not in kernel.run("print(tn.deployments())")


@pytest.mark.parametrize("seen", ["folder", "process", "region"])
def test_interrupt_at_any_stage_of_deploying_stops_what_was_begun(kernel, interrupted, gated, eventually, seen):
    models, _, left = gated("initialize")
    cell = kernel.begin(f"%triton_deploy {models} --name {left.name} --engine embedded")
    assert eventually(lambda: seen in left.kinds())
    interrupted(cell)
    assert not left()


def test_after_an_interrupted_wait_the_deployment_goes_on_and_becomes_ready(kernel, interrupted, gated, unused_name):
    models, gate, _ = gated("initialize")
    kernel.run(f"slow = tn.deploy('{models}', name='{unused_name}', engine='embedded', wait=False)")
    cell = kernel.begin("slow.wait_for_deployment(show_output=True)")
    kernel.wait_for_text(cell, "loading: gated")
    outcome = interrupted(cell)
    assert outcome.evalue == f"deployment '{unused_name}' is still starting; `delete()` stops it."
    assert kernel.run("print(slow.state)") == "starting\n"
    gate.open()
    assert kernel.run("slow.wait_for_deployment()\nprint(slow.state)") == "ready\n"
    kernel.run("slow.delete()")


def test_after_an_interrupted_inference_the_deployment_answers_the_next(kernel, interrupted, gated, eventually):
    models, gate, left = gated("execute")
    kernel.run(f"_ = %triton_deploy {models} --name {left.name} --engine embedded")
    cell = kernel.begin("%triton_infer gated x=$x")
    assert eventually(gate.reached)
    interrupted(cell)
    assert kernel.run("print(tn.deployment().state)") == "ready\n"
    gate.open()
    answer = kernel.run("answer = %triton_infer gated x=${x * 2}\nprint(answer['y'])")
    assert answer == "[0. 2. 4. 6.]\n", "the answer is this request's own and not the interrupted one's"
    kernel.run("%triton_delete")
