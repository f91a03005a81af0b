"""``tritonnb bench``, a process of its own beside a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tritonnb as tn
from tritonnb.measure.report import Report

pytestmark = pytest.mark.requires("engine")

PROGRAM = Path(sys.executable).with_name("tritonnb")


def command(*arguments, key=""):
    variables = {**os.environ, "TRITONNB_STABLE_OUTPUT": "", "TRITONNB_NONINTERACTIVE": "", "TRITONNB_KEY": key}
    return {"args": [PROGRAM, "bench", *arguments], "env": variables, "text": True}


def bench(*arguments, key=""):
    return subprocess.run(**command(*arguments, key=key), capture_output=True, check=False)


@pytest.fixture(scope="module")
def server(square):
    """A server that asks for its key."""
    with tn.deploy(square, name="square", auth=True) as deployment:
        yield deployment


@pytest.fixture
def key(server):
    return server.get_keys()[0]


def test_it_measures_a_server_by_its_address_and_saves_the_report(server, key, tmp_path):
    done = bench(
        server.url, "square", "--batch", "1,4", "--concurrency", "2", "--requests", "50",
        "--p95", "1s", "--json", tmp_path / "r.json", key=key,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    title, header, *rows = done.stdout.splitlines()
    assert title == "Measured square: 2 points over http"
    assert header.split()[:2] == ["Batch", "Concurrency"]
    assert [row.split()[0] for row in rows[:2]] == ["1", "4"]
    assert re.search(r"^  Most throughput within p95 1,000 ms: batch ", done.stdout, re.MULTILINE)
    report = Report.from_json(tmp_path / "r.json")
    assert [point.requests for point in report.points] == [50, 50]
    assert key not in (tmp_path / "r.json").read_text()


def test_grpc_is_measured_at_its_own_address(server, key):
    done = bench(server.url, "square", "--protocol", "grpc", "--grpc-url", server.grpc_url, "--requests", "20", key=key)
    assert done.returncode == 0, done.stderr
    assert "over grpc" in done.stdout


def test_inputs_may_lie_in_shared_memory_with_a_shape_of_their_own(server, key):
    done = bench(server.url, "square", "--shape", "x=4", "--shared-memory", "--requests", "20", key=key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Measured square: 1 point over http, inputs in shared memory")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["squaer"], "squaer"),
        (["square", "--batch", "0"], "batch"),
        (["square", "--batch", "x"], "--batch 'x' cannot be read"),
        (["square", "--concurrency", "1000000"], "connections"),
        (["square", "--shape", "4"], "write it as --shape x="),
        (["square", "--shape", "y=4"], "'y'"),
        (["square", "--protocol", "grpc"], "gRPC"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(server, key, arguments, told):
    done = bench(server.url, *arguments, key=key)
    assert (done.returncode, done.stdout) == (1, "")
    assert told.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_missing_or_wrong_key_is_told(server, key):
    done = bench(server.url, "square", key=key)
    assert done.returncode == 1
    assert "key" in done.stderr


def test_ctrl_c_prints_what_was_measured_so_far(server, key):
    process = subprocess.Popen(
        **command(server.url, "square", "--concurrency", "1,2,4,8,16,32", "--interval", "0.3", key=key),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in process.stderr:  # its progress names each point
        if "(2 of 6" in line:
            break
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.match(r"Measured square: \d points? over http, ended early: interrupted", shown)
