"""What a daemon and a log tell of a container becomes one sentence with the way out.

For what no machine of the tests has: NVIDIA's drivers and toolkit, and words of other daemons.
"""

from __future__ import annotations

import pytest

from tritonnb.engines.container_failures import ContainerState, end, trouble
from tritonnb.engines.gpus import device_requests
from tritonnb.errors import EngineError, PortInUseError, SpecError
from tritonnb.spec import Spec

OLD_DRIVER = """
ERROR: This container was built for NVIDIA Driver Release 610.43 or later, but
       version 535.183.01 was detected and compatibility mode is UNAVAILABLE.
"""


def failure(logs="", info=None, **state):
    return end("tritonnb-x", Spec(), ContainerState(**state), logs, info or {})


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (
            "failed programming external connectivity: Bind for 127.0.0.1:8000 failed: port is already allocated",
            "Port 8000 of this machine is taken",
        ),
        (
            "Error starting userland proxy: listen tcp4 127.0.0.1:8000: bind: address already in use",
            "Port 8000 of this machine is taken",
        ),
        ('could not select device driver "" with capabilities: [[gpu]]', "cannot be given a GPU"),
        ("unknown or invalid runtime name: nvidia", "cannot be given a GPU"),
        (
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.3, please update your driver",
            "driver is too old for the image: it wants cuda>=13.3",
        ),
        ("No such image: triton:latest", "image is gone"),
        (
            'exec: "tritonserver": executable file not found in $PATH: unknown',
            "holds no tritonserver",
        ),
        ("invalid mount config for type bind: bind source path does not exist: /x", "does not find this notebook's"),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "could not be started: Range"),
    ],
)
def test_a_refusal_of_the_daemon_is_told_with_its_meaning(refusal, said):
    error = failure(refused=refusal, status=500)
    assert said in str(error)
    assert error.hint
    assert isinstance(error, PortInUseError) == ("Port 8000" in said)


def test_a_driver_that_is_too_old_is_recognised_in_the_log():
    error = failure(OLD_DRIVER, started=True, exit_code=1)
    assert "it wants 610.43, and 535.183.01 is there" in str(error)
    assert "--gpus none" in error.hint


def test_the_words_of_cuda_in_every_log_without_a_gpu_are_not_taken_for_an_old_driver():
    logs = 'W1122 "Unable to allocate pinned system memory: CUDA driver version is insufficient for CUDA runtime"\n'
    assert "ended with exit code 1" in str(failure(logs, started=True, exit_code=1))


def test_a_daemon_that_is_away_comes_before_all_else():
    assert "no longer answers" in str(trouble("x", ContainerState(started=True, away="refused", paused=True)))
    assert trouble("x", ContainerState(started=True)) is None


def test_a_state_file_of_another_release_is_read_as_far_as_it_is_known():
    assert ContainerState.of({"id": "x", "unheard": 1}) == ContainerState(id="x")


# GPUs ---------------------------------------------------------------------------------------------------------------

WITH_TOOLKIT = {"Runtimes": {"runc": {}, "nvidia": {}}}


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Put a program of the name nvidia-smi on PATH, alone, that says and returns this."""

    def put(said="GPU 0: NVIDIA H200 (UUID: GPU-0)", code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return put


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {"Count": -1}),
        ({"gpus": "all"}, {"Count": -1}),
        ({"gpus": [0, 2]}, {"DeviceIDs": ["0", "2"]}),
        ({"resources": {"gpu_cores": 2}}, {"Count": 2}),
        ({"gpus": [0, 2], "resources": {"gpu_cores": 2}}, {"DeviceIDs": ["0", "2"]}),
    ],
)
def test_gpus_become_a_device_request(driver, options, asked):
    driver()
    (request,) = device_requests(Spec.from_options(**options), WITH_TOOLKIT)
    assert request["Capabilities"] == [["gpu"]]
    assert {key: request[key] for key in asked} == asked


@pytest.mark.parametrize("options", [{"gpus": "none"}, {"resources": {"gpu_cores": 0}}])
def test_no_gpu_is_asked_for_where_none_is_wanted(driver, options):
    driver()
    assert device_requests(Spec.from_options(**options), WITH_TOOLKIT) == []


def test_auto_asks_for_none_where_none_can_be_had(driver):
    assert device_requests(Spec(), WITH_TOOLKIT) == []
    driver()
    assert device_requests(Spec(), {"Runtimes": {"runc": {}}}) == []
    assert device_requests(Spec(), {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]})
    driver("NVIDIA-SMI has failed", 9)
    assert device_requests(Spec(), WITH_TOOLKIT) == []


def test_gpus_and_gpu_cores_that_contradict_one_another_are_an_error(driver):
    with pytest.raises(SpecError, match="contradict"):
        device_requests(Spec.from_options(gpus="none", resources={"gpu_cores": 1}), {})
    with pytest.raises(SpecError, match="contradict"):
        device_requests(Spec.from_options(gpus=[0], resources={"gpu_cores": 2}), {})


def test_what_a_machine_lacks_for_a_gpu_is_said_exactly(driver):
    refusal = 'could not select device driver "" with capabilities: [[gpu]]'
    assert "no NVIDIA driver (no nvidia-smi); the NVIDIA Container Toolkit is not installed" in str(
        failure(refused=refusal, status=500)
    )
    driver("NVIDIA-SMI has failed because it could not communicate", 9)
    told = failure(refused=refusal, status=500, info=WITH_TOOLKIT)
    assert isinstance(told, EngineError)
    assert "nvidia-smi finds no GPU (NVIDIA-SMI has failed" in str(told)
    assert "Toolkit" not in str(told)
    driver()
    assert "the daemon says: could not select" in str(failure(refused=refusal, status=500, info=WITH_TOOLKIT))
