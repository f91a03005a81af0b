"""A deployment follows a change of its spec: in the running server, or with a new one in the old one's place."""

from __future__ import annotations

import os
import signal
import socket
import threading

import numpy as np
import pytest

import tritonnb as tn
from tritonnb import records
from tritonnb.deploying import launch
from tritonnb.errors import DeploymentError, PortInUseError, SpecError, TritonNbError

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def other(tmp_path, square):
    """Another repository, with one model ``second``."""
    folder = tmp_path / "others" / "second" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    return tmp_path / "others"


@pytest.fixture
def port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serves(dep, *models: str) -> bool:
    assert {model.name for model in dep.models() if model.state == "READY"} == set(models)
    return all(dep.infer(model, {"x": X})["y"].shape == (2, 4) for model in models)


def test_other_models_are_served_by_the_same_server_and_others_are_told(repository, other, name, server_of):
    dep = tn.deploy(repository, name=name)
    server, url = server_of(name), dep.url
    dep.update(models=[str(repository), str(other)])
    assert serves(dep, "square", "second")
    dep.update(models=other)
    assert serves(dep, "second")
    assert (server_of(name), dep.url) == (server, url)
    assert records.record_of(name).spec == dep.spec.to_yaml()
    outcome = launch(other, name=name)
    assert outcome.reused
    assert outcome.deployment is dep
    with pytest.raises(DeploymentError, match="another spec"):
        launch(repository, name=name)


def test_models_that_cannot_be_served_leave_the_old_ones_serving(repository, name, tmp_path, square):
    dep = tn.deploy(repository, name=name)
    spec = dep.spec
    (tmp_path / "bad.onnx").write_bytes(square[:30])
    with pytest.raises(DeploymentError, match=r"No model of deployment .* could be loaded.\n  bad: "):
        dep.update(models=tmp_path / "bad.onnx")
    with pytest.raises(TritonNbError, match="There is no"):
        dep.update(models=tmp_path / "nowhere")
    assert dep.spec == spec
    assert dep.state == "ready"
    assert serves(dep, "square")
    dep.reload()
    assert serves(dep, "square")


def test_a_new_server_takes_the_place_of_the_old_one_behind_the_same_handle(repository, name, server_of, eventually):
    dep = tn.deploy(repository, name=name)
    server, url, key = server_of(name), dep.url, dep.get_keys()
    dep.update(auth=True)
    assert tn.deployment(name) is dep
    assert dep.spec.auth
    assert dep.url != url
    assert dep.get_keys() == key
    assert serves(dep, "square")
    assert not server.is_running()
    assert [record.name for record in records.records()].count(name) == 1


def test_a_fixed_port_is_kept(repository, name, port):
    dep = tn.deploy(repository, name=name, server={"http_port": port})
    dep.update(auth=True)
    assert dep.url == f"http://127.0.0.1:{port}"
    assert dep.state == "ready"
    assert serves(dep, "square")


def test_an_update_that_fails_leaves_the_old_server_serving(repository, name, server_of):
    dep = tn.deploy(repository, name=name)
    spec, server = dep.spec, server_of(name)
    with pytest.raises(TritonNbError, match="no flag 'log-verbus'"):
        dep.update(server={"flags": {"log-verbus": "1"}})
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError):
        dep.update(server={"http_port": taken.getsockname()[1]})
    with pytest.raises(SpecError, match="renamed"):
        dep.update(name="another")
    assert dep.spec == spec
    assert server_of(name) == server
    assert serves(dep, "square")


def test_an_update_in_place_that_fails_starts_the_old_server_again(repository, name, port):
    dep = tn.deploy(repository, name=name, server={"http_port": port})
    with pytest.raises(TritonNbError, match="no flag 'log-verbus'"):
        dep.update(server={"flags": {"log-verbus": "1"}})
    assert dep.url == f"http://127.0.0.1:{port}"
    assert dep.spec.server.flags == {}
    assert serves(dep, "square")


def test_requests_go_on_without_an_error_while_a_new_server_takes_over(repository, name):
    dep = tn.deploy(repository, name=name)
    done = threading.Event()
    errors, served = [], []

    def ask():
        while not done.is_set():
            try:
                served.append(dep.infer("square", {"x": X})["y"].shape)
            except Exception as error:  # noqa: BLE001  (whatever it is, the test must show it)
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    dep.update(auth=True)
    dep.update(auth=False)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert set(served) == {(2, 4)}


def test_updates_from_several_threads_all_take_effect(repository, other, name):
    dep = tn.deploy(repository, name=name)
    changes = [{"auth": True}, {"restart": "on-failure"}, {"models": [str(repository), str(other)]}]
    threads = [threading.Thread(target=dep.update, kwargs=change) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (dep.spec.auth, dep.spec.restart, len(dep.spec.repository)) == (True, "on-failure", 2)
    assert serves(dep, "square", "second")
    assert [record.name for record in records.records()].count(name) == 1


def test_ctrl_c_during_an_update_leaves_the_old_server_serving(repository, name, slow, left_behind, eventually):
    slow.touch()
    dep = tn.deploy(repository, name=name)
    slow.unlink()
    folders = len(list(records.home_folder("deployments").glob(f"{name}-*")))

    def interrupt():
        eventually(lambda: len(list(records.home_folder("deployments").glob(f"{name}-*/process.json"))) > folders)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="was given up; it serves as before"):
        dep.update(auth=True)
    thread.join()
    assert not dep.spec.auth
    assert dep.infer("square", {"x": X})["y"].shape == (2, 4)
    assert len(list(records.home_folder("deployments").glob(f"{name}-*"))) == folders


def test_delete_during_an_update_leaves_nothing(repository, name, slow, left_behind, eventually):
    slow.touch()
    dep = tn.deploy(repository, name=name)
    slow.unlink()
    errors = []

    def update():
        try:
            dep.update(auth=True)
        except DeploymentError as error:
            errors.append(error)

    thread = threading.Thread(target=update)
    thread.start()
    assert eventually(lambda: len(list(records.home_folder("deployments").glob(f"{name}-*/process.json"))) > 1)
    dep.delete()
    slow.touch()
    thread.join()
    assert "was deleted" in str(errors[0])
    assert dep.state == "stopped"
    assert not left_behind(name)


def test_a_model_in_memory_gives_way_to_one_in_files(repository, name, square):
    dep = tn.deploy(square, name=name)
    dep.update(auth=True)
    assert serves(dep, name)
    dep.update(models=repository)
    assert serves(dep, "square")


def test_reload_takes_over_what_changed_in_the_files(repository, name, add_model, square, server_of, eventually):
    add_model("gone", "model.onnx", square)
    add_model("cut", "model.onnx", square[:30])
    dep = tn.deploy(repository, name=name)
    server = server_of(name)
    add_model("new", "model.onnx", square)
    for file in sorted((repository / "gone").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (repository / "gone").rmdir()
    add_model("cut", "model.onnx", square)
    dep.reload()
    assert dep.state == "ready"
    assert serves(dep, "square", "new", "cut")
    with pytest.raises(DeploymentError, match="no model 'gone'"):
        dep.infer("gone", {"x": X})
    next(child for child in server.children() if "/square/" in " ".join(child.cmdline())).kill()
    assert eventually(lambda: dep.state == "degraded")
    dep.reload()
    assert dep.state == "ready"
    assert serves(dep, "square", "new", "cut")
