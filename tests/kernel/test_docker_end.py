"""Wherever a kernel dies with the Docker engine, no container, volume, network, process or file of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from tritonnb.home import home

pytestmark = pytest.mark.requires("engine", "docker")

WITHIN_S = 10.0
CYCLES = int(os.environ.get("TRITONNB_CYCLES", "20"))
AT_ONCE = 2


@pytest.fixture
def containers(docker_client):
    """Return the names of the containers of a deployment."""

    def look(name):
        there = docker_client.containers.list(all=True, ignore_removed=True)
        return [container.name for container in there if container.name.startswith(f"tritonnb-{name}-")]

    return look


@pytest.fixture
def nothing_is_left(eventually, containers, traces):
    def check():
        assert eventually(lambda: not (containers(traces.name) or traces()), WITHIN_S), (
            containers(traces.name),
            traces(),
        )

    return check


def deploying(models, name, image, **options):
    options = {"name": name, "engine": "docker", "server": {"image": image}, **options}
    return f"dep = tn.deploy({str(models)!r}, **{options!r})"


@pytest.mark.requires("docker-registry")
def test_a_kernel_that_is_killed_during_a_pull_leaves_nothing_and_the_daemon_pulls_no_further(
    new_kernel, models, traces, pushed, line, docker_client, eventually, nothing_is_left
):
    pushed("triton:slow")
    image = f"{line.at}/triton:slow"
    line.pause_s = 0.05  # so its 40 MB take half a minute
    kernel = new_kernel()
    kernel.begin(deploying(models, traces.name, image))
    assert eventually(lambda: line.carried > 3_000_000)
    os.kill(kernel.pid, signal.SIGKILL)
    nothing_is_left()
    assert eventually(lambda: line.is_idle, WITHIN_S)
    assert image not in {tag for each in docker_client.images.list() for tag in each.tags}


def killed_while_it_creates(kernel, name, eventually, _client):
    # The supervisor has just begun.
    assert eventually(lambda: list((home() / "deployments").glob(f"{name}-*/process.json")))
    os.kill(kernel.pid, signal.SIGKILL)


def killed_at(action):
    def kill(kernel, name, _eventually, client):
        which = {"type": "container", "event": action}
        with closing(client.events(decode=True, filters=which, since=1)) as events:
            next(event for event in events if event["Actor"]["Attributes"]["name"].startswith(f"tritonnb-{name}-"))
        os.kill(kernel.pid, signal.SIGKILL)

    return kill


def killed_while_it_loads(kernel, name, eventually, _client):
    logs = home() / "deployments"
    assert eventually(lambda: any("loading: echo" in log.read_text() for log in logs.glob(f"{name}-*/server.log")))
    os.kill(kernel.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "kill",
    [killed_while_it_creates, killed_at("create"), killed_at("start"), killed_while_it_loads],
    ids=["creating", "created", "started", "loading"],
)
def test_a_kernel_that_is_killed_at_any_stage_of_a_start_leaves_nothing(
    new_kernel, models, traces, triton_image, docker_client, eventually, nothing_is_left, kill
):
    kernel = new_kernel()
    kernel.begin(deploying(models, traces.name, triton_image))
    kill(kernel, traces.name, eventually, docker_client)
    nothing_is_left()


def test_of_two_kernels_that_deploy_one_name_at_once_one_serves_and_the_other_is_told(
    new_kernel, models, traces, triton_image, containers, nothing_is_left
):
    kernels = new_kernel(), new_kernel()
    cells = [kernel.begin(deploying(models, traces.name, triton_image)) for kernel in kernels]
    outcomes = [kernel.outcome(cell) for kernel, cell in zip(kernels, cells, strict=True)]
    winner, loser = sorted(zip(outcomes, kernels, strict=True), key=lambda pair: pair[0].ename)
    assert winner[0].ename == ""
    assert loser[0].ename == "DeploymentError"
    assert f"A deployment {traces.name!r} runs in another notebook (process {winner[1].pid})" in loser[0].evalue
    assert len(containers(traces.name)) == 1
    assert winner[1].run("print(dep.infer('echo', {'x': x})['y'])") == "[0. 1. 2. 3.]\n"
    winner[1].run("dep.delete()")
    nothing_is_left()


CYCLE = """
import sys, time
import tritonnb as tn
source, name, image = sys.argv[1:]
tn.deploy(source, name=name, engine="docker", server={"image": image})
print("ready", flush=True)
time.sleep(600)
"""


def test_many_deploys_that_end_with_a_kill_leave_the_machine_and_the_daemon_as_they_were(
    models, traces, triton_image, docker_client, eventually, nothing_is_left
):
    before = of_daemon(docker_client)
    for _ in range(CYCLES // AT_ONCE):
        commands = [
            [sys.executable, "-c", CYCLE, models, f"{traces.name}-{count}", triton_image] for count in range(AT_ONCE)
        ]
        kernels = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        try:
            assert [kernel.stdout.readline() for kernel in kernels] == ["ready\n"] * AT_ONCE
            assert len(of_daemon(docker_client) - before) >= AT_ONCE
        finally:
            for kernel in kernels:
                kernel.kill()
                kernel.communicate()
    nothing_is_left()
    assert eventually(lambda: of_daemon(docker_client) == before, WITHIN_S), of_daemon(docker_client) - before


def of_daemon(client):
    """Return the containers, volumes and networks that a daemon has."""
    return (
        {f"container {container.name}" for container in client.containers.list(all=True, ignore_removed=True)}
        | {f"volume {volume.name}" for volume in client.volumes.list()}
        | {f"network {network.name}" for network in client.networks.list()}
    )
