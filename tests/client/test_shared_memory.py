"""Tensors through shared memory to a real server, and that nothing of it stays behind, whatever happens."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from protocol_models import write_protocol_models

import tritonnb as tn
from tritonnb.client import Client
from tritonnb.client.options import InferOptions
from tritonnb.client.shared_memory import SharedMemory
from tritonnb.client.tensors import dtype_of
from tritonnb.errors import DeploymentError, InferenceError, RequestRefusedError, ServerError, ServerUnreachableError

pytestmark = pytest.mark.requires("engine")
X = np.array([[1, 3, 2], [9, 7, 8]], np.float32)


@pytest.fixture(scope="module")
def served(sources, tmp_path_factory):
    """A deployment of models with inputs and outputs of every datatype, of known and unknown size."""
    repository = write_protocol_models(tmp_path_factory.mktemp("models"), "scores", "teller", "queued")
    for name in ("echo", "failing"):
        (repository / name).symlink_to(sources / name)
    with tn.deploy(repository, name="regions") as deployment:
        yield deployment


@pytest.fixture(scope="module")
def client(served):
    with Client(served.endpoint) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_stays(served):
    """Whatever a test does, in the end no region is registered, and none lies in ``/dev/shm``."""
    yield
    if served.state == "ready":
        assert served._running_client().system_shared_memory() == []
    assert regions(served) == []


def regions(served):
    return [path.name for path in Path("/dev/shm").glob(f"{served._region_prefix()}client_*")]


def test_tensors_go_through_shared_memory_as_they_would_be_sent(served):
    inputs = {"x": X}
    sent = served.infer("scores", inputs)
    with served.shared_memory() as memory:
        placed = served.infer("scores", inputs, shared_memory=memory, request_id="mine")
        (region,) = served._running_client().system_shared_memory()
        assert region["key"] == f"/{regions(served)[0]}"
    assert placed.id == "mine"
    for name in sent:
        np.testing.assert_array_equal(placed[name], sent[name])
        assert placed[name].flags.writeable


def test_every_datatype_goes_through_shared_memory(served):
    with served.shared_memory() as memory:
        for tensor in served.metadata("echo").inputs:
            kind = tensor.name.removeprefix("in_")
            value = np.array([["a\x00", "ü"]], object)
            if kind != "STRING":
                value = np.array([[0, 1]]).astype(dtype_of(tensor.datatype))
            sent, placed = (
                served.infer("echo", {tensor.name: value}, outputs=[f"out_{kind}"], **options)
                for options in ({}, {"shared_memory": memory})
            )
            np.testing.assert_array_equal(placed[f"out_{kind}"], sent[f"out_{kind}"])


def test_the_room_is_used_again_and_grows(served):
    with served.shared_memory() as memory:
        served.infer("scores", {"x": X}, shared_memory=memory)
        first = regions(served)
        served.infer("scores", {"x": X + 1}, shared_memory=memory)
        assert regions(served) == first
        large = np.ones((1, 100_000), np.float32)
        answer = served.infer("echo", {"in_FP32": large}, outputs=["out_FP32"], shared_memory=memory)
        np.testing.assert_array_equal(answer["out_FP32"], large)
        assert len(regions(served)) == 1
        assert regions(served) != first


def test_an_answer_stays_what_it_was_when_the_room_is_used_again(served):
    with served.shared_memory() as memory:
        first = served.infer("scores", {"x": X}, shared_memory=memory)
        served.infer("scores", {"x": X * 0}, shared_memory=memory)
    np.testing.assert_array_equal(first["plain"], X)


def test_chosen_outputs_classes_and_parameters_work_there_too(served):
    with served.shared_memory() as memory:
        assert list(served.infer("scores", {"x": X}, outputs=["plain"], shared_memory=memory)) == ["plain"]
        classes = served.infer("scores", {"x": X[:1]}, outputs=["scores"], classes=1, shared_memory=memory)
        assert classes["scores"].tolist() == [[b"3.000000:1:dog"]]
        told = served.infer("teller", {"text": ["a"]}, parameters={"page": 3}, shared_memory=memory)
        assert b'"page": 3' in told["told"][0]


def test_threads_have_room_of_their_own(served):
    wrong = []

    def ask(number):
        x = np.full((2, 3), number, np.float32)
        answers = [served.infer("scores", {"x": x}, shared_memory=memory)["plain"] for _ in range(20)]
        wrong.extend(number for answer in answers if (answer != x).any())

    with served.shared_memory() as memory:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(regions(served)) <= 4
    assert not wrong


def test_after_a_models_error_the_room_is_used_on(served):
    with served.shared_memory() as memory:
        with pytest.raises(RequestRefusedError, match="the ink has run out"):
            served.infer("failing", {"x": np.ones((2, 2), np.float32)}, shared_memory=memory)
        with pytest.raises(InferenceError, match="'xx'"):
            served.infer("scores", {"xx": X}, shared_memory=memory)
        np.testing.assert_array_equal(served.infer("scores", {"x": X}, shared_memory=memory)["plain"], X)
        assert len(regions(served)) == 1


def test_room_that_the_server_may_still_write_to_is_not_used_again(served, tmp_path):
    running = {"tell": str(tmp_path / "runs"), "until": str(tmp_path / "go")}
    with served.shared_memory() as memory:
        with pytest.raises(ServerUnreachableError):
            served.infer("queued", {"x": [[1]]}, shared_memory=memory, timeout=0.3, parameters=running)
        late = regions(served)
        np.testing.assert_array_equal(served.infer("scores", {"x": X}, shared_memory=memory)["plain"], X)
        assert len(regions(served)) == 2
        assert set(late) < set(regions(served))
        (tmp_path / "go").touch()


def test_ctrl_c_leaves_nothing(served, tmp_path):
    running = {"tell": str(tmp_path / "runs"), "until": str(tmp_path / "go")}

    def press():
        while not (tmp_path / "runs").exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        (tmp_path / "go").touch()  # the block waits until the server needs the region no more

    pressed = threading.Thread(target=press)
    pressed.start()
    with pytest.raises(KeyboardInterrupt), served.shared_memory() as memory:
        served.infer("queued", {"x": [[1]]}, shared_memory=memory, parameters=running)
    pressed.join()


def test_a_region_that_the_server_lost_is_registered_again(served, client):
    with served.shared_memory() as memory:
        served.infer("scores", {"x": X}, shared_memory=memory)
        client.unregister_system_shared_memory()
        np.testing.assert_array_equal(served.infer("scores", {"x": X}, shared_memory=memory)["plain"], X)


def test_a_region_follows_the_deployment_to_a_new_server(tmp_path):
    write_protocol_models(tmp_path, "scores")
    with tn.deploy(tmp_path, name="moves") as deployment, deployment.shared_memory() as memory:
        deployment.infer("scores", {"x": X}, shared_memory=memory)
        deployment.regen_key()
        np.testing.assert_array_equal(deployment.infer("scores", {"x": X}, shared_memory=memory)["plain"], X)
        assert len(regions(deployment)) == 1
        prefix = deployment._region_prefix()
        deployment.delete()
        with pytest.raises(DeploymentError, match="was deleted"):
            deployment.infer("scores", {"x": X}, shared_memory=memory)
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))


@pytest.mark.parametrize("options", [{"binary": False}, {"protocol": "grpc"}, {"compression": "gzip"}], ids=str)
def test_only_plain_binary_http_requests_take_their_tensors_there(served, options):
    with served.shared_memory() as memory, pytest.raises(InferenceError, match="binary HTTP requests only"):
        served.infer("scores", {"x": X}, shared_memory=memory, **options)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_neither_uses_nor_removes_its_parents_room(served):
    def ask():
        assert (served.infer("scores", {"x": X}, shared_memory=memory)["plain"] == X).all()
        assert len(regions(served)) == 2
        memory.close()

    with served.shared_memory() as memory:
        served.infer("scores", {"x": X}, shared_memory=memory)
        before = regions(served)
        child = multiprocessing.get_context("fork").Process(target=ask)
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert regions(served) == before
        np.testing.assert_array_equal(served.infer("scores", {"x": X}, shared_memory=memory)["plain"], X)


def test_memory_that_was_removed_says_so(served):
    memory = served.shared_memory()
    memory.close()
    memory.close()
    with pytest.raises(InferenceError, match="was removed"):
        served.infer("scores", {"x": X}, shared_memory=memory)


def test_what_does_not_fit_into_dev_shm_is_told_and_leaves_nothing(served, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with served.shared_memory() as memory, pytest.raises(InferenceError, match="No space left") as caught:
        served.infer("scores", {"x": X}, shared_memory=memory)
    assert "df -h /dev/shm" in caught.value.hint


def test_a_server_that_sees_other_memory_is_told(served, client):
    with served.shared_memory() as memory:
        region = memory._take(8)
        region.unlink()
        with pytest.raises(ServerError, match="Unable to open shared memory region") as caught:
            region.register(client)
    assert "shared_memory: true" in caught.value.hint


def test_a_killed_kernel_leaves_no_region(tmp_path):
    write_protocol_models(tmp_path / "models", "scores")
    program = f"""
import time, tritonnb as tn
deployment = tn.deploy({str(tmp_path / "models")!r}, name="killed")
memory = deployment.shared_memory()
deployment.infer("scores", {{"x": [[1.0, 2.0, 3.0]]}}, shared_memory=memory)
print(deployment._region_prefix(), flush=True)
time.sleep(600)
"""
    kernel = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with kernel:
        prefix = kernel.stdout.readline().strip()
        assert len(list(Path("/dev/shm").glob(f"{prefix}client_*"))) == 1
        kernel.kill()
    deadline = time.monotonic() + 20
    while list(Path("/dev/shm").glob(f"{prefix}*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_killed_process_left_for_a_server_that_lives_on_is_swept(served):
    prefix = served._region_prefix()
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for pid, started in ((int(ended.stdout), 1), (os.getpid(), 1)):  # the second: a number that was given anew
        Path(f"/dev/shm/{prefix}client_{pid}_{started}_0123abcd").touch()
    other = Path(f"/dev/shm/{prefix}client_of_another_kind")
    other.touch()
    with SharedMemory(lambda: prefix):
        assert regions(served) == [other.name]
    other.unlink()


def test_regions_are_registered_told_and_forgotten(client, served):
    with served.shared_memory() as memory:
        key = f"/{memory._take(8192).name}"
        client.register_system_shared_memory("one", f"/{memory._take(4096).name}", 4096)
        client.register_system_shared_memory("two", key, 1024, offset=4096)
        assert client.system_shared_memory("two") == [{"name": "two", "key": key, "offset": 4096, "byte_size": 1024}]
        assert {region["name"] for region in client.system_shared_memory()} == {"one", "two"}
        client.unregister_system_shared_memory("one")
        with pytest.raises(ServerError, match="Unable to find system shared memory region: 'one'"):
            client.system_shared_memory("one")
        client.unregister_system_shared_memory()
        assert client.system_shared_memory() == []


def test_the_memory_of_a_gpu_needs_a_gpu(client):
    assert client.cuda_shared_memory() == []
    with pytest.raises(ServerError, match="failed to register") as caught:
        client.register_cuda_shared_memory("one", bytes(64), 8)
    assert "GPU" in caught.value.hint
    with pytest.raises(ServerError, match="Unable to find cuda shared memory region: 'one'"):
        client.cuda_shared_memory("one")
    client.unregister_cuda_shared_memory("one")
    client.unregister_cuda_shared_memory()


def test_without_the_key_no_region_is_registered(served):
    from tritonnb.endpoint import Endpoint

    with Client(Endpoint(served.url)) as client, served.shared_memory() as memory:
        with pytest.raises(ServerError) as caught:
            client.infer("scores", {"x": X}, InferOptions(shared_memory=memory))
        assert caught.value.status == 403
