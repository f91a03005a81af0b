"""What the load generator sends and writes down, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tritonnb.endpoint import Endpoint
from tritonnb.errors import TritonNbError
from tritonnb.measure import generator, wire
from tritonnb.measure.load import Load
from tritonnb.measure.running import BEGIN, END, KIND, LATE, RunningLoad

X = np.zeros((1, 4), np.float32)
MS = 1_000_000
# Threads at 2, one epoll loop at 4.
BOTH = pytest.mark.parametrize("concurrency", [2, 4])


def http(endpoint):
    return [wire.http_bytes(endpoint, "known", "", {"x": X})]


def records_of(endpoint, load, requests=None):
    """Return the records of a load of a fixed number of requests, and the names of its errors."""
    with RunningLoad(endpoint, load, requests or http(endpoint)) as running:
        parts = []
        while not running.ended:
            parts.append(running.read())
            time.sleep(0.01)
        records = np.concatenate([*parts, running.read()])
        return records, {kind: running.error_name(kind) for kind in set(records[:, KIND]) - {generator.OK}}


@BOTH
def test_every_request_is_recorded_once(known_server, concurrency):
    records, errors = records_of(known_server(delays_ms=[1]), Load(concurrency, requests=1001))
    assert len(records) == 1001
    assert not errors


@BOTH
@pytest.mark.parametrize("how", ["chunked", "close", "in_pieces"])
def test_every_way_to_frame_an_answer_is_read(known_server, concurrency, how):
    records, errors = records_of(known_server(delays_ms=[1], **{how: True}), Load(concurrency, requests=20))
    assert len(records) == 20
    assert not errors


@BOTH
def test_errors_are_counted_with_the_servers_words(known_server, concurrency):
    records, errors = records_of(known_server(delays_ms=[1], fail_every=4), Load(concurrency, requests=100))
    assert (records[:, KIND] == 500).sum() == 25
    assert errors == {500: "HTTP 500: the ink has run out"}


@BOTH
def test_an_answer_that_does_not_come_is_a_timeout_and_the_load_goes_on(known_server, concurrency):
    endpoint = known_server(delays_ms=[5], stall_at=0.05, stall_s=1)
    records, errors = records_of(endpoint, Load(concurrency, requests=100, timeout_s=0.3))
    assert len(records) == 100
    assert errors == {generator.TIMEOUT: "timeout: no answer within 0.3 s"}
    late = records[records[:, KIND] == generator.TIMEOUT]
    assert ((late[:, END] - late[:, BEGIN]) >= 300 * MS).all()


@BOTH
def test_a_server_that_dies_shows_as_broken_and_unreachable(known_server, concurrency):
    endpoint = known_server(delays_ms=[5], die_after=20)
    records, errors = records_of(endpoint, Load(concurrency, requests=30))
    assert (records[:, KIND] == generator.OK).sum() < 20
    assert set(errors) == {generator.BROKEN, generator.UNREACHABLE}


@pytest.mark.requires("openssl")
@BOTH
def test_an_encrypted_server_is_measured(known_server, concurrency, tmp_path, monkeypatch):
    certificate = tmp_path / "certificate-and-key.pem"
    subject = ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", "-", "-out", "-"]
    certificate.write_bytes(subprocess.run(made, check=True, capture_output=True).stdout)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    endpoint = known_server(delays_ms=[1], certificate=str(certificate), fail_every=10)
    endpoint = Endpoint(endpoint.url.replace("http:", "https:"))
    records, errors = records_of(endpoint, Load(concurrency, requests=20))
    assert len(records) == 20
    assert set(errors) == {500}
    assert (records[:, KIND] == 500).sum() == 2


def test_what_does_not_speak_http_is_malformed(scripted_bytes):
    _, errors = records_of(scripted_bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Load(requests=2))
    assert set(errors) == {generator.MALFORMED}
    assert "SSH-2.0" in errors[generator.MALFORMED]


def test_more_bytes_than_were_said_are_malformed(scripted_bytes):
    _, errors = records_of(scripted_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"), Load(requests=2))
    assert set(errors) == {generator.MALFORMED}


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
@pytest.mark.parametrize("connections", [2, 64])
def test_an_open_loop_keeps_its_rate(known_server, arrivals, connections):
    load = Load(rate=200, arrivals=arrivals, requests=200, connections=connections)
    records, errors = records_of(known_server(delays_ms=[1]), load)
    assert not errors
    begun = np.sort(records[:, BEGIN])
    gaps = np.diff(begun)
    assert len(records) == 200
    assert gaps.mean() == pytest.approx(5 * MS, rel=0.01 if arrivals == "constant" else 0.25)
    # Independent arrivals: gaps as spread as they are long; an even spacing: none.
    assert gaps.std() / gaps.mean() == pytest.approx(0 if arrivals == "constant" else 1, abs=0.25)


def test_an_open_loop_counts_the_waiting_for_a_free_connection(known_server):
    # Two connections of 20 ms each carry 100 requests per second; 200 are due.
    load = Load(rate=200, requests=100, connections=2)
    records, _ = records_of(known_server(delays_ms=[20]), load)
    latency = records[:, END] - records[:, BEGIN]
    # The last of 100 is due after 500 ms and ends after 1000 ms or more.
    assert latency.max() > 400 * MS
    assert np.median(records[:, LATE]) < 5 * MS  # not the generator's fault


def test_waiting_is_counted_as_in_a_queue(known_server, truth_us):
    endpoint = known_server(delays_ms=[20])
    records, _ = records_of(endpoint, Load(rate=40, arrivals="poisson", requests=60, connections=1))
    begins, ends = records[:, BEGIN], records[:, END]
    # Each is served when it is due and the one before it has been answered.
    served = ends - np.maximum(begins, np.concatenate([[0], ends[:-1]]))
    longer = served - truth_us(endpoint) * 1000
    assert longer.min() > -1 * MS
    assert np.median(longer) < 10 * MS


def test_requests_are_sent_in_turn(scripted_bytes):
    endpoint = scripted_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    requests = [http(endpoint)[0].replace(b"Host", name) for name in (b"Aaaa", b"Bbbb", b"Cccc")]
    records_of(endpoint, Load(requests=7), requests)
    assert [name for name in endpoint.seen.split() if name in {b"Aaaa:", b"Bbbb:", b"Cccc:"}] == [
        b"Aaaa:",
        b"Bbbb:",
        b"Cccc:",
        b"Aaaa:",
        b"Bbbb:",
        b"Cccc:",
        b"Aaaa:",
    ]


@BOTH
def test_a_request_larger_than_all_buffers_arrives_whole(known_server, concurrency):
    endpoint = known_server(delays_ms=[1])
    large = wire.http_bytes(endpoint, "known", "", {"x": np.zeros((1, 8_000_000), np.float32)})
    records, errors = records_of(endpoint, Load(concurrency, requests=8), [large])
    assert len(records) == 8
    assert not errors


OWNER = """
import json, sys, time
import numpy as np
from tritonnb.endpoint import Endpoint
from tritonnb.measure import wire
from tritonnb.measure.load import Load
from tritonnb.measure.running import RunningLoad
endpoint = Endpoint(sys.argv[1])
request = wire.http_bytes(endpoint, "known", "", {"x": np.zeros((1, 4), np.float32)})
with RunningLoad(endpoint, Load(int(sys.argv[2])), [request]) as r:
    while not len(r.read()):
        time.sleep(0.01)
    print(r._process.pid, flush=True)
    time.sleep(60)
"""


@BOTH
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_the_generator_ends_with_its_parent(known_server, concurrency, end):
    endpoint = known_server(delays_ms=[1])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, endpoint.url, str(concurrency)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process = psutil.Process(int(owner.stdout.readline()))
    os.kill(owner.pid, end)
    process.wait(2)
    owner.communicate()


def test_the_generator_says_why_it_failed(monkeypatch, known_server, eventually):
    endpoint = known_server()
    monkeypatch.setattr("tritonnb.measure.running._job", lambda *_: {"lengths": []})
    with RunningLoad(endpoint, Load(), http(endpoint)) as running:
        assert eventually(lambda: running.ended)
        with pytest.raises(TritonNbError, match=r"The load generator failed: KeyError: 'parent'"):
            running.read()


@pytest.fixture
def scripted_bytes():
    """Start a server that answers everything with the same bytes."""
    import socket
    import threading

    opened = []

    class Scripted(Endpoint):
        seen = b""

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        endpoint = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                opened.append(connection)
                while data := connection.recv(1 << 16):
                    object.__setattr__(endpoint, "seen", endpoint.seen + data)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        opened.append((listener, thread))
        return endpoint

    yield start
    for thing in opened:
        if isinstance(thing, tuple):
            thing[0].shutdown(socket.SHUT_RDWR)
            thing[0].close()
            thing[1].join()
        else:
            thing.close()
