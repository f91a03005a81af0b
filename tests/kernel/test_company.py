"""Deployments in kernels that do more than run one cell after the other: event loops, gevent, threads, forks."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.requires("engine")


@pytest.fixture
def ours(kernel, deployed):
    """Deploy in one cell, so that the test's own cells find it as ``dep``."""
    left = deployed(kernel)
    yield
    kernel.run("%triton_delete")
    assert not left()


def test_a_cell_that_awaits_deploys_and_infers_while_its_event_loop_runs(kernel, models, unused_name):
    cell = f"""
import asyncio
other = asyncio.create_task(asyncio.sleep(3600))
await asyncio.sleep(0)
_ = %triton_deploy {models} --name {unused_name} --engine embedded
answer = %triton_infer echo x=$x
print(answer["y"])
dep = tn.deployment()
several = await asyncio.gather(*(asyncio.to_thread(dep.infer, "echo", {{"x": x + i}}) for i in range(8)))
print([float(answer["y"][0]) for answer in several])
print("the loop went on" if not other.done() and other.cancel() else other)
%triton_delete
"""
    assert kernel.run(cell).splitlines() == [
        "[0. 1. 2. 3.]",
        "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]",
        "the loop went on",
        f"Deployment '{unused_name}' deleted.",
    ]


def test_a_kernel_that_gevent_has_patched_deploys_and_infers(new_kernel, deployed):
    # Its threads stay as they are: with them patched too, ipykernel 7 by itself does not run another cell.
    kernel = new_kernel("from gevent import monkey\n_ = monkey.patch_all(thread=False)")
    left = deployed(kernel)
    assert kernel.run("answer = %triton_infer echo x=$x\nprint(answer['y'])") == "[0. 1. 2. 3.]\n"
    in_a_greenlet = "import gevent\nprint(gevent.spawn(dep.infer, 'echo', {'x': x}).get(timeout=30)['y'])"
    assert kernel.run(in_a_greenlet) == "[0. 1. 2. 3.]\n"
    kernel.run("%triton_delete")
    assert not left()


def test_what_one_cell_deployed_answers_the_threads_of_another(kernel, ours):
    threads = """
from concurrent.futures import ThreadPoolExecutor
def ask(i):
    return all((dep.infer("echo", {"x": x + i * j})["y"] == x + i * j).all() for j in range(20))
with ThreadPoolExecutor(8) as pool:
    print(all(pool.map(ask, range(8))))
"""
    assert kernel.run(threads) == "True\n"


def test_forked_workers_get_answers_of_their_own(kernel, ours):
    workers = """
import multiprocessing
def ask(i):
    return float(dep.infer("echo", {"x": x + i})["y"][0])
ask(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(ask, range(8)), dep.state)
print(ask(8))
"""
    assert kernel.run(workers) == "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0] ready\n8.0\n"
