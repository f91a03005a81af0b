"""A container comes up as the README promises, fails in words, and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from docker.errors import NotFound
from python_models import python_model

import tritonnb as tn
from tritonnb.engines.docker import DockerEngine, sweep
from tritonnb.errors import DeploymentError, EngineError, PortInUseError, SpecError, TritonNbError
from tritonnb.home import home
from tritonnb.running import running
from tritonnb.spec import Spec

pytestmark = pytest.mark.requires("engine", "docker")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def eventually(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def container_of(deployment):
    return deployment._run.engine.container


def containers(client, name=""):
    """Return the names of the containers of the deployments of this name."""
    there = client.containers.list(all=True, ignore_removed=True)
    return [container.name for container in there if container.name.startswith(f"tritonnb-{name}")]


@pytest.fixture(scope="module")
def served(triton_image, square, tmp_path_factory):
    """A deployment with all that a spec can say of a container."""
    folder = tmp_path_factory.mktemp("models") / "square" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    server = {"image": triton_image, "shm_size": "256m", "env": {"LEVEL": "high"}, "flags": {"log-verbose": 1}}
    resources = {"cpu_cores": 1.5, "memory_gb": 2}
    with tn.deploy(
        folder.parent.parent, name="served", engine="docker", gpus="none", server=server, resources=resources
    ) as deployment:
        yield deployment


@pytest.fixture
def inspected(served, docker_client):
    return docker_client.api.inspect_container(container_of(served))


def test_the_models_are_mounted_read_only_under_the_path_that_they_have_here(inspected):
    (mount,) = inspected["Mounts"]
    assert (mount["Type"], mount["RW"]) == ("bind", False)
    assert mount["Source"] == mount["Destination"]
    assert Path(mount["Source"], "square/1/model.onnx").exists()


def test_every_port_is_published_on_loopback_alone(served, inspected):
    published = inspected["NetworkSettings"]["Ports"]
    assert {address["HostIp"] for addresses in published.values() for address in addresses} == {"127.0.0.1"}
    assert f"http://127.0.0.1:{published['8000/tcp'][0]['HostPort']}" == served.url
    assert f"127.0.0.1:{published['8001/tcp'][0]['HostPort']}" == served.grpc_url
    assert f":{published['8002/tcp'][0]['HostPort']}/" in served.metrics_url


def test_limits_are_those_of_the_spec(served, inspected):
    host = inspected["HostConfig"]
    assert host["ShmSize"] == 256 * 2**20
    assert host["NanoCpus"] == 1_500_000_000
    assert (host["Memory"], host["MemorySwap"]) == (2 * 2**30, 2 * 2**30)
    assert host["Init"]
    limits = {limit["Name"]: limit["Soft"] for limit in host["Ulimits"]}
    assert limits["stack"] == 64 * 2**20
    assert "memlock" in limits or "the limit memlock" in served.get_logs()
    assert host["LogConfig"]["Type"] == "json-file"


def test_labels_say_whose_it_is(served, inspected, docker_client, triton_image):
    labels = inspected["Config"]["Labels"]
    of_image = docker_client.images.get(triton_image).labels
    named = ("deployment", "folder", "home", "host", "owner", "owner-started", "keep")
    assert set(labels) - set(of_image) == {f"tritonnb.{name}" for name in named}
    assert labels["tritonnb.host"] == socket.gethostname()
    assert labels["tritonnb.deployment"] == "served"
    assert labels["tritonnb.home"] == str(home())
    assert labels["tritonnb.owner"] == str(os.getpid())
    assert labels["tritonnb.keep"] == "false"
    assert Path(labels["tritonnb.folder"]).parent == home() / "deployments"


def test_without_gpus_none_is_asked_for_and_none_seen(inspected):
    assert not inspected["HostConfig"]["DeviceRequests"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in inspected["Config"]["Env"]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"gpus": "all"}, {"Count": -1, "DeviceIDs": None}),
        ({"gpus": [0, 2]}, {"Count": 0, "DeviceIDs": ["0", "2"]}),
        ({"resources": {"gpu_cores": 2}}, {"Count": 2, "DeviceIDs": None}),
    ],
)
def test_the_gpus_that_are_asked_for_are_its_device_requests(docker_client, triton_image, tmp_path, asked, shown):
    # A container with GPUs can be made on any machine, and started only where they are.
    spec = Spec.from_options(name="gpus", server={"image": triton_image}, **asked)
    engine = DockerEngine(spec, tmp_path, "KEY")
    engine.prepare(lambda *_: None)
    (tmp_path / "models").mkdir()
    body = engine._body(engine._prepared, {8000: 1, 8001: 2, 8002: 3})
    made = docker_client.api.create_container_from_config(body, name=f"tritonnb-gpus-{tmp_path.name}")
    try:
        told = docker_client.api.inspect_container(made["Id"])
        (request,) = told["HostConfig"]["DeviceRequests"]
        request["DeviceIDs"] = request["DeviceIDs"] or None  # daemons differ in how they say none
        assert request == {"Driver": "", "Capabilities": [["gpu"]], "Options": {}, **shown}
        assert "NVIDIA_VISIBLE_DEVICES=void" not in told["Config"]["Env"]
    finally:
        docker_client.api.remove_container(made["Id"])


def test_it_runs_as_this_user_with_the_spec_s_variables_and_flags(inspected):
    assert inspected["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
    assert "LEVEL=high" in inspected["Config"]["Env"]
    assert "--log-verbose=1" in inspected["Config"]["Cmd"]
    assert "--model-control-mode=explicit" in inspected["Config"]["Cmd"]


def test_its_memory_is_the_containers_and_not_that_of_the_process_that_watches_it(served, docker_client):
    told = docker_client.containers.get(container_of(served)).stats(stream=False)["memory_stats"]
    (seen,) = (one.memory_bytes for one in running().deployments if one.name == "served")
    inactive = told["stats"].get("inactive_file", told["stats"].get("total_inactive_file"))
    assert seen == pytest.approx(told["usage"] - inactive, rel=0.1)
    assert seen > 60e6


def test_the_log_names_the_image_and_grows_while_somebody_waits(served, triton_image, capsys):
    assert triton_image in served.get_logs().splitlines()[0]
    served.wait_for_deployment(show_output=True)
    assert "successfully loaded 'square'" in capsys.readouterr().out


def test_a_lost_process_makes_it_degraded_until_the_model_is_loaded_again(served, docker_client):
    top = docker_client.containers.get(container_of(served)).top(ps_args="-ww -eo pid,args")
    stubs = [int(pid) for pid, args in top["Processes"] if "triton_python_backend_stub" in args]
    os.kill(stubs[0], signal.SIGKILL)
    assert eventually(lambda: served.state == "degraded")
    (model,) = served.models()
    assert f"1 of its {len(stubs)} processes died" in model.reason
    served.load("square")
    assert served.state == "ready"
    np.testing.assert_array_equal(served.infer("square", {"x": X})["y"], X * X)


def test_a_paused_container_is_said_so_and_serves_once_it_goes_on(served, docker_client):
    container = docker_client.containers.get(container_of(served))
    container.pause()
    assert eventually(lambda: served.state == "failed")
    with pytest.raises(DeploymentError, match=r"is paused.\n.*docker unpause"):
        served.infer("square", {"x": X})
    container.unpause()
    assert eventually(lambda: served.state == "ready")
    np.testing.assert_array_equal(served.infer("square", {"x": X})["y"], X * X)


def test_with_shared_memory_it_has_this_machines_and_the_log_says_that_no_size_applies(
    repository, docker_deploy, docker_client
):
    deployment = docker_deploy(repository, "shared", server={"shared_memory": True})
    host = docker_client.api.inspect_container(container_of(deployment))["HostConfig"]
    assert host["IpcMode"] == "host"
    assert "shm_size does not apply" in deployment.get_logs().splitlines()[0]


# Ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (lambda c: c.kill(), r"killed \(signal 9\)"),
        (lambda c: c.stop(timeout=5), "ended with exit code 0"),
        (lambda c: c.remove(force=True), "was removed by somebody"),
    ],
    ids=["killed", "stopped", "removed"],
)
def test_a_container_that_somebody_ends_is_failed_and_says_how(repository, docker_deploy, docker_client, ending, said):
    deployment = docker_deploy(repository, "ends")
    ending(docker_client.containers.get(container_of(deployment)))
    assert eventually(lambda: deployment.state == "failed")
    with pytest.raises(TritonNbError, match=said):
        deployment.infer("square", {"x": X})
    deployment.delete()
    assert not containers(docker_client, "ends")


def test_an_end_for_want_of_memory_is_called_that(repository, add_model, docker_deploy):
    add_model("hungry", "model.py", python_model(initialize="self.all = bytearray(2**30)"))
    deployment = docker_deploy(repository, "hungry", resources={"memory_gb": 0.5}, restart="never")
    assert deployment.state == "degraded"
    assert eventually(lambda: "killed for want of memory" in deployment.get_logs())


def test_a_request_that_takes_tritonserver_over_its_limit_is_told_with_the_limit(repository, add_model, docker_deploy):
    add_model("echo", "model.py", python_model())
    deployment = docker_deploy(repository, "narrow", resources={"memory_gb": 0.4})
    with pytest.raises(TritonNbError, match=r"killed for want of memory: .* limit of 0.4 GB") as caught:
        deployment.infer("echo", {"x": np.ones(200_000_000, np.float32)})
    assert "resources.memory_gb" in str(caught.value)


def test_a_daemon_that_goes_away_is_said_so_and_what_it_left_is_told_when_it_is_back(
    repository, docker_deploy, docker_client
):
    from docker_session import DOCKER

    if not DOCKER._own:
        pytest.skip("the daemon is the machine's own, not this session's")
    deployment = docker_deploy(repository, "orphan")
    DOCKER._own.kill()
    try:
        assert eventually(lambda: deployment.state == "failed")
        with pytest.raises(TritonNbError, match=r"daemon no longer answers"):
            deployment.infer("square", {"x": X})
    finally:
        DOCKER._own.run()
    assert eventually(lambda: "no longer answers" not in str(deployment._run.engine.failure()))
    deployment.delete()
    assert not containers(docker_client, "orphan")


def test_a_daemon_that_goes_away_during_a_deploy_is_said_so_and_what_it_left_is_swept(
    repository, add_model, docker_deploy, docker_client
):
    from docker_session import DOCKER

    if not DOCKER._own:
        pytest.skip("the daemon is the machine's own, not this session's")
    add_model("stuck", "model.py", python_model(initialize="time.sleep(60)"))

    def kill():
        logs = home() / "deployments"
        eventually(lambda: any("loading: stuck" in log.read_text() for log in logs.glob("orphaned-*/server.log")))
        DOCKER._own.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(TritonNbError, match=r"daemon no longer answers"):
            docker_deploy(repository, "orphaned")
    finally:
        killer.join()
        DOCKER._own.run()
    assert not list((home() / "deployments").glob("orphaned-*"))
    sweep(docker_client)
    assert not containers(docker_client, "orphaned")


def test_too_little_shared_memory_is_told_with_the_way_to_more(repository, docker_deploy):
    with pytest.raises(DeploymentError, match=r"(?i)(shared memory|/dev/shm)") as caught:
        docker_deploy(repository, "narrow", server={"shm_size": "64k"})
    assert "shm" in str(caught.value)


def test_a_failed_server_is_started_again_with_its_models_at_its_address(repository, docker_deploy, docker_client):
    deployment = docker_deploy(repository, "restarted", restart="on-failure")
    url = deployment.url
    docker_client.containers.get(container_of(deployment)).kill()
    assert eventually(lambda: deployment.health().restarts == 1 and deployment.state == "ready", 60)
    assert deployment.url == url
    np.testing.assert_array_equal(deployment.infer("square", {"x": X})["y"], X * X)


# Refusals -----------------------------------------------------------------------------------------------------------


def test_a_gpu_that_cannot_be_had_is_told_with_what_is_missing(repository, docker_deploy, docker_client):
    with pytest.raises(EngineError, match=r"cannot be given a GPU: .*(driver|Toolkit).*\n.*--gpus none"):
        docker_deploy(repository, "gpu", gpus="all")
    assert not containers(docker_client, "gpu")


def test_a_flag_of_a_newer_release_is_refused_before_anything_starts(repository, docker_deploy):
    with pytest.raises(SpecError, match=r"release 24.10 has no flag 'allow-client-shm': it came with 26.04"):
        docker_deploy(repository, "flags", server={"flags": {"allow-client-shm": "true"}})


def test_a_flag_that_the_container_rests_on_is_refused_with_the_field_to_take(repository, docker_deploy):
    with pytest.raises(SpecError, match=r"'http-port' cannot be given to a container.\n.*server.http_port"):
        docker_deploy(repository, "flags", server={"flags": {"http-port": 8000}})


def test_an_image_without_a_tritonserver_is_told(repository, docker_deploy, docker_client):
    with pytest.raises(EngineError, match="holds no tritonserver"):
        docker_deploy(repository, "wrong", server={"image": "python:3.11-slim-bookworm"})
    assert not containers(docker_client, "wrong")


def test_an_image_that_no_registry_can_be_asked_for_is_told(repository, docker_deploy):
    with pytest.raises(
        EngineError, match=r"image 127.0.0.1:9/triton:24.10 could not be pulled.*\n.*(registry|reached)"
    ):
        docker_deploy(repository, "nowhere", server={"image": "127.0.0.1:9/triton:24.10"})


def test_a_port_that_is_taken_between_choice_and_start_is_told(repository, docker_deploy, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("tritonnb.engines.docker.free_ports", lambda _asked: [port, *free(2)])
        with pytest.raises(PortInUseError, match=f"Port {port} "):
            docker_deploy(repository, "raced")


def free(count):
    from tritonnb.engines.options import free_ports

    return free_ports((None,) * count)


def test_a_port_that_was_taken_is_chosen_anew(repository, docker_deploy, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tries = [[taken.getsockname()[1], *free(2)]]
        monkeypatch.setattr("tritonnb.engines.docker.free_ports", lambda _asked: tries.pop() if tries else free(3))
        assert docker_deploy(repository, "raced").state == "ready"
        assert not tries


def test_a_foreign_container_of_its_name_is_never_touched(repository, docker_deploy, docker_client, monkeypatch):
    monkeypatch.setattr("tritonnb.records.secrets.token_hex", lambda _bytes: "0123abcd")
    foreign = docker_client.containers.create("python:3.11-slim-bookworm", name="tritonnb-mine-0123abcd")
    try:
        with pytest.raises(EngineError, match="tritonnb-mine-0123abcd already that is not tritonnb's"):
            docker_deploy(repository, "mine")
        foreign.reload()
        assert foreign.status == "created"
    finally:
        foreign.remove(force=True)


# Nothing is left ----------------------------------------------------------------------------------------------------

KERNEL = """
    import sys, time
    import tritonnb as tn
    tn.deploy(sys.argv[1], name=sys.argv[2], engine="docker", keep=sys.argv[4] == "keep", server={"image": sys.argv[3]})
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def kernel(tmp_path, repository, triton_image):
    """Start a process that deploys and waits."""
    started = []

    def start(name, keep=""):
        command = [sys.executable, "-c", textwrap.dedent(KERNEL), repository, name, triton_image, keep]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_kernel_that_is_killed_while_it_serves_leaves_no_container(kernel, docker_client):
    process = kernel("killed")
    assert process.stdout.readline() == "ready\n"
    assert containers(docker_client, "killed")
    process.kill()
    assert eventually(lambda: not containers(docker_client, "killed"))


def test_a_kept_container_outlives_its_kernel_and_is_found_again_by_name(kernel, docker_client):
    process = kernel("kept", "keep")
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    from tritonnb.deploying import find

    with find("kept") as found:
        found.wait_for_deployment()
        assert found.engine == "docker"
        np.testing.assert_array_equal(found.infer("square", {"x": X})["y"], X * X)
    assert not containers(docker_client, "kept")


def test_a_container_whose_supervisor_was_killed_is_swept_and_no_other(repository, docker_deploy, docker_client):
    lost, other = docker_deploy(repository, "lost"), docker_deploy(repository, "other")
    os.kill(lost._run.engine._process._first.supervisor, signal.SIGKILL)
    assert eventually(lambda: lost.state == "failed")
    assert sweep(docker_client) == [container_of(lost)]
    assert other.state == "ready"
    with pytest.raises(NotFound):
        docker_client.containers.get(container_of(lost))


def test_an_interrupted_deploy_leaves_no_container(repository, add_model, docker_deploy, docker_client):
    add_model("stuck", "model.py", python_model(initialize="time.sleep(60)"))

    def interrupt():
        eventually(lambda: containers(docker_client, "interrupted"))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt, match="was stopped; nothing of it is left"):
        docker_deploy(repository, "interrupted")
    assert not containers(docker_client, "interrupted")
