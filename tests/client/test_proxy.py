"""A proxy before the real server that cuts, delays, truncates and garbles: no hang, no wrong array, no lasting harm."""

from __future__ import annotations

import re
import socket
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonnb.client import Client
from tritonnb.client.options import InferOptions
from tritonnb.endpoint import Endpoint
from tritonnb.errors import InferenceError, ServerError, ServerUnreachableError, TritonNbError

pytestmark = pytest.mark.requires("engine")

PAIR = """
input { name: "number" data_type: TYPE_FP32 dims: [-1, 2] }
input { name: "word" data_type: TYPE_STRING dims: [-1] }
output { name: "NUMBER" data_type: TYPE_FP32 dims: [-1, 2] }
output { name: "WORD" data_type: TYPE_STRING dims: [-1] }
"""
ANSWER_PAIR = """
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(t.name().upper(), t.as_numpy()) for t in r.inputs()])
            for r in requests
        ]
"""
INPUTS = {"number": np.arange(6, dtype=np.float32).reshape(3, 2), "word": np.array(["one", "", "three"], dtype=object)}
ANSWERS = {"NUMBER": INPUTS["number"].tolist(), "WORD": [b"one", b"", b"three"]}
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def sources(tmp_path_factory, write_python_model):
    """Return a model repository with one model, that has two outputs."""
    repository = tmp_path_factory.mktemp("proxied") / "repository"
    write_python_model(repository, "pair", PAIR, ANSWER_PAIR)
    return repository


def read_message(connection):
    """Return a request or an answer as it came, empty where the connection was closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(1 << 16)
        if not data:
            return b""
        received += data
    length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", received)[1])
    end = received.index(b"\r\n\r\n") + 4 + length
    while len(received) < end:
        received += connection.recv(1 << 16)
    return received


class Tampering:
    """What the proxy does to the answers of inference requests; None lets them pass.

    A function takes the connection to the client and the answer; the connection is closed when it returns.
    """

    def __init__(self, endpoint):
        parts = urlsplit(endpoint.url)
        self._upstream = (parts.hostname, parts.port)
        self.fault = None
        self.inferences = 0
        self.last_answer = b""

    def __call__(self, connection):
        with socket.create_connection(self._upstream) as upstream:
            while request := read_message(connection):
                upstream.sendall(request)
                answer = read_message(upstream)
                if b"/infer HTTP" in request:
                    self.inferences += 1
                    self.last_answer = answer
                    if self.fault is not None:
                        self.fault(connection, answer)
                        return
                connection.sendall(answer)


@pytest.fixture
def proxied(endpoint, scripted):
    """Return the proxy's faults, and a client behind it that knows the model."""
    tampering = Tampering(endpoint)
    with Client(Endpoint(scripted(tampering).url, headers=endpoint.headers), timeout=20) as client:
        check(client.infer("pair", INPUTS))
        yield tampering, client


def check(result):
    assert {name: array.tolist() for name, array in result.items()} == ANSWERS


def sends(change):
    """Return a fault that sends the answer changed, and closes the connection."""
    return lambda connection, answer: connection.sendall(change(answer))


def replaces(pattern, by):
    return sends(lambda answer: re.sub(pattern, by, answer, count=1))


def drips(connection, answer):
    for byte in answer:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)  # the pace is what is tested


def stalls_after(share):
    def stall(connection, answer):
        connection.sendall(answer[: int(len(answer) * share)])
        connection.recv(1)  # until the client gives up

    return stall


FAULTS = {
    "closed before the answer": (sends(lambda _: b""), ServerUnreachableError, "before it answered"),
    "cut in the head": (sends(lambda a: a[:40]), ServerUnreachableError, "in the middle of an answer"),
    "cut in the JSON": (sends(lambda a: a[: a.index(b"outputs")]), ServerUnreachableError, "bytes of an answer"),
    "cut in a tensor": (sends(lambda a: a[:-5]), ServerUnreachableError, "bytes of an answer"),
    "silent": (stalls_after(0), ServerUnreachableError, "did not answer"),
    "stalled in the head": (stalls_after(0.1), ServerUnreachableError, "did not answer"),
    "stalled in a tensor": (stalls_after(0.98), ServerUnreachableError, "did not answer"),
    "dripping": (drips, ServerUnreachableError, "did not answer"),
    "truncated, length and all": (
        sends(
            lambda a: re.sub(rb"\nContent-Length: (\d+)", lambda m: b"\nContent-Length: %d" % (int(m[1]) - 5), a)[:-5]
        ),
        ServerError,
        "cannot be read",
    ),
    "empty, length and all": (
        sends(lambda a: re.sub(rb"\nContent-Length: \d+", b"\nContent-Length: 0", a)[: a.index(b"\r\n\r\n") + 3]),
        ServerError,
        "cannot be read",
    ),
    "no number for a status": (replaces(rb" 200 ", b" 2?0 "), ServerError, "does not speak HTTP/1"),
    "another protocol": (replaces(rb"HTTP/1.1", b"SSH-2.0-"), ServerError, "does not speak HTTP/1"),
    "no content": (replaces(rb" 200 ", b" 204 "), InferenceError, "pair"),
    "an error's status": (replaces(rb" 200 ", b" 502 "), InferenceError, "pair"),
    "a page of HTML": (
        sends(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"),
        ServerError,
        "cannot be read",
    ),
    "no length that is one": (replaces(rb"\nContent-Length: ", b"\nContent-Length: x"), ServerError, "Content-Length"),
    "a length below 0": (replaces(rb"\nContent-Length: ", b"\nContent-Length: -"), ServerError, "Content-Length"),
    "a length beyond the end": (
        replaces(rb"\nContent-Length: ", b"\nContent-Length: 1"),
        ServerUnreachableError,
        "bytes of an answer",
    ),
    "a JSON longer than the body": (
        replaces(rb"Inference-Header-Content-Length: ", b"Inference-Header-Content-Length: 9"),
        ServerError,
        "cannot be read",
    ),
    "a JSON shorter than it is": (
        replaces(rb"(Inference-Header-Content-Length: )\d", rb"\1"),
        ServerError,
        "cannot be read",
    ),
    "no length of the JSON": (
        replaces(rb"Inference-Header-Content-Length: ", b"X-Other: "),
        ServerError,
        "cannot be read",
    ),
    "chunks that are none": (
        replaces(rb"\nContent-Length: \d+(\r\n\r\n)", rb"\nTransfer-Encoding: chunked\1zz\r\n"),
        ServerError,
        "chunk's size",
    ),
    "compressed, but not": (
        replaces(rb"\nContent-Type: ", b"\nContent-Encoding: gzip\r\nX-Type: "),
        ServerError,
        "compressed",
    ),
    "broken JSON": (replaces(rb'"outputs":\[', b'"outputs":<<'), ServerError, "cannot be read"),
    "an unknown datatype": (replaces(rb"FP32", b"FP31"), ServerError, "FP31"),
    "another shape": (replaces(rb"\[3,2\]", b"[2,2]"), ServerError, "cannot be read"),
    "a negative shape": (replaces(rb"\[3,2\]", b"[3,-]"), ServerError, "cannot be read"),
    "other sizes": (replaces(rb'"binary_data_size":24', b'"binary_data_size":20'), ServerError, "cannot be read"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_an_error_in_time_and_the_next_request_works(proxied, name):
    tampering, client = proxied
    tampering.fault, kind, message = FAULTS[name]
    begun = time.monotonic()

    with pytest.raises(kind, match=message):
        client.infer("pair", INPUTS, InferOptions(timeout=TIMEOUT_S))

    assert time.monotonic() - begun < TIMEOUT_S + 2
    tampering.fault = None
    check(client.infer("pair", INPUTS))


def mutations(draw, answer):
    """Return an answer with something done to it, before the bytes of its tensors or by cutting them short."""
    tensors = len(answer) - 24 - 20
    at = draw(st.integers(0, tensors - 1))
    length = draw(st.integers(1, 40))
    how = draw(st.sampled_from(["flip", "insert", "delete", "repeat", "cut"]))
    if how == "flip":
        return answer[:at] + bytes([answer[at] ^ (1 << draw(st.integers(0, 7)))]) + answer[at + 1 :]
    if how == "insert":
        return answer[:at] + draw(st.binary(min_size=1, max_size=40)) + answer[at:]
    if how == "delete":
        return answer[:at] + answer[at + length :]
    if how == "repeat":
        return answer[:at] + answer[at : min(at + length, tensors)] + answer[at:]
    return answer[: draw(st.integers(0, len(answer) - 1))]


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_garbled_no_wrong_array_comes_of_it(proxied, data):
    tampering, client = proxied
    garbled = mutations(data.draw, tampering.last_answer)
    tampering.fault = sends(lambda _: garbled)
    begun = time.monotonic()
    try:
        result = client.infer("pair", INPUTS, InferOptions(timeout=TIMEOUT_S))
    except TritonNbError:
        pass
    else:
        # A bit of an output's name is all that nobody can miss.
        assert [array.tolist() for array in result.values()] == list(ANSWERS.values())
    finally:
        tampering.fault = None

    assert time.monotonic() - begun < TIMEOUT_S + 2
    check(client.infer("pair", INPUTS))


def test_junk_after_an_answer_is_never_read_as_the_next_one(proxied):
    tampering, client = proxied
    stale = []

    def answers_twice(connection, answer):
        other = answer.replace(INPUTS["number"].tobytes(), bytes(24))
        connection.sendall(answer + other)
        stale.append(connection.recv(1))  # until the client closes it

    tampering.fault = answers_twice
    check(client.infer("pair", INPUTS))
    tampering.fault = None
    check(client.infer("pair", INPUTS))

    assert stale == [b""]


def test_many_requests_outlive_connections_that_are_closed_between_two_of_them(proxied):
    tampering, client = proxied
    turn = threading.Lock()
    count = 0

    def closes_after_the_answer_or_before_it(connection, answer):
        nonlocal count
        with turn:
            count += 1
        connection.sendall(answer)
        while request := read_message(connection):
            del request
            return  # a kept connection, closed before the answer

    tampering.fault = closes_after_the_answer_or_before_it
    results = list(client.infer_many("pair", [INPUTS] * 40, concurrency=4))

    assert len(results) == 40
    for result in results:
        check(result)
    assert count == 40


def test_many_requests_end_at_the_first_answer_that_is_cut(proxied):
    tampering, client = proxied

    def cuts_the_seventh(connection, answer):
        if tampering.inferences == 7 + 1:  # one was sent by the fixture
            connection.sendall(answer[:-5])
            return
        connection.sendall(answer)
        Tampering.__call__(tampering, connection)

    tampering.fault = cuts_the_seventh
    got = []
    with pytest.raises(ServerUnreachableError, match=r"item 6: .* bytes of an answer"):
        got.extend(client.infer_many("pair", [INPUTS] * 40, concurrency=1))

    assert len(got) == 6
    for result in got:
        check(result)
    tampering.fault = None
    check(client.infer("pair", INPUTS))
