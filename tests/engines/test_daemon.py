"""The daemon is sought where the docker command seeks it, and what cannot work is said with the way out."""

from __future__ import annotations

import json
import os
import re
import socket
import threading

import pytest

from tritonnb.engines import choose
from tritonnb.engines.daemon import Address, address, docker_client
from tritonnb.errors import EngineError, SpecError
from tritonnb.spec import Spec


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """A user of whom Docker knows nothing."""
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT", "TRITONNB_ENGINE", "JUPYTERHUB_USER", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tritonnb.engines.daemon.inside_container", lambda: False)
    monkeypatch.setattr("tritonnb.engines.daemon.SYSTEM_SOCKETS", (tmp_path / "docker.sock", tmp_path / "podman.sock"))


@pytest.fixture
def listening(tmp_path):
    """Listen at a socket of this name; what connects is answered nothing and let go."""
    doors = []

    def listen(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(path))
        door.listen()
        doors.append(door)
        threading.Thread(target=let_go, args=(door,), daemon=True).start()
        return path

    def let_go(door):
        try:
            while True:
                door.accept()[0].close()
        except OSError:
            return

    yield listen
    for door in doors:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


def test_without_any_sign_of_docker_there_is_no_address_and_a_way_out():
    assert address() is None
    with (
        pytest.raises(EngineError, match=r"no Docker daemon here.*\n.*docs.docker.com.*engine: embedded"),
        docker_client(),
    ):
        pass


def test_docker_host_comes_first(monkeypatch, listening):
    listening("docker.sock")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/mine.sock")
    assert address() == Address("unix:///run/mine.sock", "DOCKER_HOST")


def test_the_context_of_the_docker_command_is_followed(tmp_path):
    meta = tmp_path / "config" / "contexts" / "meta" / "0123"
    meta.mkdir(parents=True)
    (tmp_path / "config" / "config.json").write_text(json.dumps({"currentContext": "lab"}))
    (meta / "meta.json").write_text(json.dumps({"Name": "lab", "Endpoints": {"docker": {"Host": "unix:///lab.sock"}}}))
    assert str(address()) == "unix:///lab.sock (context 'lab')"


@pytest.mark.parametrize("name", ["docker.sock", ".docker/run/docker.sock", "podman/podman.sock", "podman.sock"])
def test_the_sockets_of_docker_rootless_docker_desktop_and_podman_are_found(listening, name):
    path = listening(name)
    assert address() == Address(f"unix://{path}")


@pytest.mark.parametrize("host", ["tcp://10.0.0.1:2375", "ssh://me@machine", "tcp://docker:2376"])
def test_a_daemon_of_another_machine_is_refused_because_it_cannot_mount_ours(monkeypatch, host):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError, match=r"is not this machine's: it cannot mount") as caught, docker_client():
        pass
    assert host in str(caught.value)


@pytest.mark.parametrize("host", ["unix:///no/such.sock", "tcp://127.0.0.1:9"])
def test_a_daemon_that_does_not_run_is_told_with_what_was_tried(monkeypatch, host):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError, match=r"does not answer at .*\(DOCKER_HOST\)") as caught, docker_client():
        pass
    assert host in str(caught.value)
    assert "embedded" in caught.value.hint


@pytest.mark.parametrize(
    ("variables", "in_container", "said"),
    [
        ({}, True, r"in a container itself: mount .*docker\.sock.*--network=host.*embedded"),
        ({"JUPYTERHUB_USER": "ada"}, True, r"container of JupyterHub: whoever runs the hub can mount .*embedded"),
        ({"JUPYTERHUB_USER": "ada"}, False, r"under JupyterHub: whoever runs the hub .*embedded"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True, r"in a pod of a Kubernetes cluster.*: take the embedded"),
    ],
)
@pytest.mark.parametrize("host", ["", "unix:///no/such.sock"])
def test_a_notebook_that_is_not_simply_on_this_machine_is_told_its_own_way_out(
    monkeypatch, variables, in_container, said, host
):
    monkeypatch.setattr("tritonnb.engines.daemon.inside_container", lambda: in_container)
    for name, value in {**variables, "DOCKER_HOST": host}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EngineError) as caught, docker_client():
        pass
    assert re.search(said, caught.value.hint)


@pytest.fixture
def ordinary_user():
    """Be somebody who may not open every socket."""
    if os.getuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize(("in_container", "way_out"), [(False, "usermod -aG docker"), (True, "--group-add")])
def test_permission_denied_on_the_socket_is_told_with_the_group_for_it(
    listening, monkeypatch, request, in_container, way_out
):
    monkeypatch.setattr("tritonnb.engines.daemon.inside_container", lambda: in_container)
    path = listening("docker.sock")
    path.chmod(0)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    request.getfixturevalue("ordinary_user")
    with pytest.raises(EngineError, match=rf"Permission denied.*\n.*{way_out}"), docker_client():
        pass


def test_what_is_no_daemon_is_told(listening):
    listening("docker.sock")
    with pytest.raises(EngineError, match=r"does not answer as Docker does.*\n.*docker info"), docker_client():
        pass


# engine: auto -------------------------------------------------------------------------------------------------------


def test_auto_takes_the_embedded_engine_where_there_is_no_daemon():
    assert str(choose(Spec())) == "embedded engine (there is no Docker daemon)"


def test_auto_takes_the_embedded_engine_where_the_daemon_does_not_answer_and_says_so(listening):
    path = listening("docker.sock")
    choice = choose(Spec())
    assert choice.engine == "embedded"
    assert f"unix://{path} does not answer as Docker does" in choice.why


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"gpus": "all"}, "gpus"),
        ({"gpus": [0]}, "gpus"),
        ({"resources": {"memory_gb": 1.0}}, "resources"),
        ({"server": {"image": "triton"}}, "server.image"),
    ],
)
def test_auto_takes_docker_where_only_docker_serves_a_field(options, field):
    assert str(choose(Spec.from_options(**options))) == f"docker engine (only it serves {field})"


def test_auto_is_what_the_variable_says(monkeypatch):
    monkeypatch.setenv("TRITONNB_ENGINE", "docker")
    assert str(choose(Spec())) == "docker engine (TRITONNB_ENGINE says so)"
    monkeypatch.setenv("TRITONNB_ENGINE", "dokcer")
    with pytest.raises(SpecError, match=r"'dokcer', which is no engine.\n.*did you mean 'docker'"):
        choose(Spec())


def test_an_engine_that_is_named_is_taken_without_a_reason():
    assert str(choose(Spec(engine="docker"))) == "docker engine"


def test_auto_imports_no_docker_where_there_is_none():
    import subprocess
    import sys

    code = "import sys; from tritonnb.engines import choose; from tritonnb.spec import Spec; choose(Spec()); "
    code += "sys.exit('docker' in sys.modules)"
    environment = {**os.environ, "DOCKER_HOST": "unix:///no/such.sock"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.requires("docker")
def test_auto_takes_docker_where_its_daemon_has_an_image_of_triton(triton_image, docker_client, monkeypatch):
    from docker_session import DOCKER

    monkeypatch.setenv("DOCKER_HOST", DOCKER.host)
    choice = choose(Spec())
    assert choice.engine == "docker"
    assert triton_image in choice.why
