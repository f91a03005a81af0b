"""What only the log knows is told once, and only of the model's last load; lines as Triton 2.51 writes them."""

from __future__ import annotations

import pytest

from tritonnb.client.diagnosis import crash_reason, diagnose, load_error, still_loading

LOADING = 'I1122 18:41:27.332856 32543 model_lifecycle.cc:472] "loading: net:1"\n'
LOADED = "I1122 18:41:28.332856 32543 model_lifecycle.cc:839] \"successfully loaded 'net'\"\n"
FAILED = "I1122 18:41:28.332856 32543 model_lifecycle.cc:777] \"failed to load 'net'\"\n"
POLLED = (
    "E1122 18:41:30.892337 32543 model_repository_manager.cc:1460] \"Poll failed for model directory 'net': unexpected"
    " platform type 'onnx_runtime' for net\"\n"
)
CRASHED = """\
Fatal Python error: Segmentation fault

Thread 0x00007fbf8b5c4000 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007fbf8b5c3000 (most recent call first):
  File "/home/me/deployments/vision-1/models/net/1/model.py", line 11 in initialize

Extension modules: numpy.core._multiarray_umath (total: 1)
"""
UNHEALTHY = (
    "load failed for model 'net': version 1 is at UNAVAILABLE state: Internal: Stub process 'net_0' is not healthy."
)
TOLD_NOTHING = "failed to load 'net', failed to poll from model repository"


def test_a_crash_is_told_by_the_models_own_line():
    error = load_error("net", UNHEALTHY, log=LOADING + CRASHED + FAILED)
    assert error.message == (
        "model 'net' could not be loaded: its process crashed: Segmentation fault (at net/1/model.py(11): initialize)"
    )
    assert error.hint
    assert not error.logs


@pytest.mark.parametrize("log", ["", LOADING + CRASHED + LOADING, LOADING + CRASHED.replace("/net/", "/other/")])
def test_the_crash_of_an_earlier_load_or_of_another_model_is_not_this_ones(log):
    assert not crash_reason("net", log)
    assert "not healthy" in load_error("net", UNHEALTHY, log=log).message


def test_a_reason_that_only_the_log_has_stands_in_for_the_answer_that_told_nothing():
    error = load_error("net", TOLD_NOTHING, log=LOADING + LOADED + POLLED)
    assert error.message == "model 'net' could not be loaded: unexpected platform type 'onnx_runtime' for net"
    assert error.hint == "did you mean 'onnxruntime_onnx'?"


def test_an_answer_with_a_reason_of_its_own_is_not_replaced_by_an_older_line_of_the_log():
    assert load_error("net", UNHEALTHY, log=POLLED + LOADING).message.endswith("is not healthy.")


def test_without_a_log_the_hint_says_where_the_reason_is():
    error = load_error("net", TOLD_NOTHING)
    assert "the server's log holds the reason" in error.hint


def test_an_error_that_was_made_without_the_log_is_made_anew_with_it():
    before = load_error("net", UNHEALTHY, status=400)
    after = load_error("net", before.message, status=before.status, log=LOADING + CRASHED)
    assert after.message.count("could not be loaded") == 1
    assert "crashed" in after.message
    assert after.status == 400


@pytest.mark.parametrize(
    ("log", "models"),
    [
        ("", ()),
        (LOADING, ("net",)),
        (LOADING + LOADED, ()),
        (LOADING + FAILED, ()),
        (LOADING + LOADED + LOADING, ("net",)),
        (LOADING + LOADING.replace("net", "slow") + FAILED, ("slow",)),
    ],
)
def test_the_models_that_still_load_are_known_from_the_log(log, models):
    assert still_loading(log) == models


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("all is well", ""),
        ("unable to find backend library for backend 'fil', try", "serve it as ONNX or from a Python model"),
        ("unable to find backend library for backend 'pyhton', try", "did you mean 'python'?"),
        ("unexpected platform type 'tensorrt' for net", 'write `backend: "tensorrt"`'),
        ("No module named 'a.b'", "beside model.py"),
        ("No module named 'a.b'", "`--pip a`"),
        ("libcublasLt.so.12: cannot open shared object file", "libcublasLt.so.12 belongs to a GPU"),
        ("libcurl.so.4: cannot open shared object file", ""),
        ("instance_group is KIND_GPU, but the onnxruntime 1.32 installed here", "kind: KIND_CPU"),
    ],
)
def test_a_known_cause_has_its_cure(text, hint):
    assert hint in diagnose(text)
    assert bool(hint) == bool(diagnose(text))
