"""The transport against a real socket server that misbehaves in every way that a network or a proxy can."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tritonnb.client.transport import Transport
from tritonnb.endpoint import Endpoint
from tritonnb.errors import ServerError, ServerUnreachableError, SpecError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def read_request(connection):
    """Return a request's head and body; an empty head where the client closed the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        if not data:
            return "", b""
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(1 << 20)
    return head.decode(), body


def answers(*raw):
    """Return a script that gives the n-th request the n-th answer and then closes the connection."""

    def script(connection):
        for answer in raw:
            if read_request(connection)[0]:
                connection.sendall(answer)

    return script


def keeps_answering(connection):
    while (request := read_request(connection))[0]:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request[1]) + request[1])


def waits(connection):
    """Read the request and never answer."""
    read_request(connection)
    connection.recv(1)


@pytest.fixture
def transport():
    """Return a function that makes a transport to a server."""
    made = []

    def make(server, timeout=20.0, path="", **headers):
        made.append(Transport(Endpoint(server.url + path, headers=headers), timeout))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_one_connection_serves_all_requests_of_a_thread(scripted, transport):
    server = scripted(keeps_answering)
    sender = transport(server)

    bodies = [bytes(sender.request("POST", "x", [b"%d" % n]).body) for n in range(5)]

    assert bodies == [b"0", b"1", b"2", b"3", b"4"]
    assert server.accepted == 1


def test_base_path_headers_and_parts_arrive(scripted, transport):
    seen = []

    def script(connection):
        seen.append(read_request(connection))
        connection.sendall(OK)

    sender = transport(scripted(script), path="/a/b c/", Authorization="Bearer secret")
    answer = sender.request("POST", "v2/x", [b"he", memoryview(b""), b"llo"], headers={"X-More": "1"})

    (head, body) = seen[0]
    assert head.startswith("POST /a/b%20c/v2/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nAuthorization: Bearer secret\r\nX-More: 1\r\nContent-Length: 5" in head
    assert body == b"hello"
    assert (answer.status, answer.headers, bytes(answer.body)) == (200, {"content-length": "2"}, b"ok")


def test_a_body_larger_than_every_buffer_goes_and_comes_whole(scripted, transport):
    body = os.urandom(1 << 20) * 20

    answer = transport(scripted(keeps_answering)).request("POST", "x", [body[:7], np.empty((0, 3)), body[7:]])

    assert answer.body == body


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nT: 1\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok", b"ok"),
    ],
    ids=["chunked", "100 Continue", "204", "no reason phrase"],
)
def test_every_framing_is_read_and_the_connection_kept(scripted, transport, raw, body):
    server = scripted(answers(raw, OK))
    sender = transport(server)

    assert sender.request("GET", "x").body == body
    assert sender.request("GET", "x").body == b"ok"
    assert server.accepted == 1


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale", b"ok"),
    ],
    ids=["Connection: close", "no length", "more than asked for"],
)
def test_a_connection_that_cannot_be_used_again_is_not(scripted, transport, raw, body):
    server = scripted(answers(raw), answers(OK))
    sender = transport(server)

    assert sender.request("GET", "x").body == body
    assert sender.request("GET", "x").body == b"ok"
    assert server.accepted == 2


def test_a_kept_connection_closed_before_the_answer_is_tried_again_once(scripted, transport):
    def answers_once_then_closes_on_the_next(connection):
        answers(OK)(connection)
        read_request(connection)

    server = scripted(answers_once_then_closes_on_the_next, answers(OK))
    sender = transport(server)

    sender.request("GET", "x")
    assert sender.request("GET", "x").body == b"ok"
    assert server.accepted == 2


def test_what_must_not_be_sent_twice_is_not(scripted, transport):
    reached = []

    def answers_once_then_closes_on_the_next(connection):
        answers(OK)(connection)
        reached.append(read_request(connection)[1])

    server = scripted(answers_once_then_closes_on_the_next, answers(OK))
    sender = transport(server)

    sender.request("POST", "x", [b"1"])
    with pytest.raises(ServerUnreachableError, match="was not sent again, because it may have been executed"):
        sender.request("POST", "x", [b"2"], again=False)

    assert reached == [b"2"]
    assert server.accepted == 1
    assert sender.request("POST", "x", [b"3"], again=False).body == b"ok"


def test_a_new_connection_closed_before_the_answer_is_an_error(scripted, transport):
    server = scripted(answers(b""), answers(OK))
    sender = transport(server)

    with pytest.raises(ServerUnreachableError, match="before it answered"):
        sender.request("GET", "x")
    assert server.accepted == 1
    assert sender.request("GET", "x").body == b"ok"


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", ServerUnreachableError, "after 5 of 10 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ServerUnreachableError, "in the middle of an answer"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            ServerUnreachableError,
            "after 2 of 5 bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            ServerUnreachableError,
            "in the middle",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n", ServerError, "chunk's size"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
            ServerError,
            "chunk does not end",
        ),
        (b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok", ServerError, "does not speak HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ServerError, "does not speak HTTP/1"),
        (b"\x00\x00\x18\x04\x00\x00", ServerError, "does not speak HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, ServerError, "does not speak HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", ServerError, "Content-Length is '-2'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999999\r\n\r\nok", ServerError, "do not fit into memory"),
    ],
)
def test_a_broken_answer_is_an_error_and_the_next_request_works(scripted, transport, raw, error, message):
    server = scripted(answers(raw), answers(OK))
    sender = transport(server)

    with pytest.raises(error, match=message) as caught:
        sender.request("GET", "x")
    assert caught.value.hint
    assert sender.request("GET", "x").body == b"ok"


def test_no_answer_ends_with_the_timeout_and_the_late_answer_is_never_read(scripted, transport):
    late = threading.Event()

    def answers_late(connection):
        read_request(connection)
        late.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    server = scripted(answers_late, answers(OK))
    sender = transport(server)

    with pytest.raises(ServerUnreachableError, match=r"did not answer GET /x within 0\.1 s") as caught:
        sender.request("GET", "x", timeout=0.1)
    late.set()

    assert server.url in caught.value.message
    assert sender.request("GET", "x").body == b"ok"


def test_the_timeout_is_for_the_whole_answer_however_slowly_it_drips(scripted, transport):
    def drips(connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)  # the pace is what is tested

    sender = transport(scripted(drips))
    begun = time.monotonic()

    with pytest.raises(ServerUnreachableError, match="did not answer"):
        sender.request("GET", "x", timeout=0.3)
    assert time.monotonic() - begun < 3


def test_a_server_that_takes_no_more_bytes_ends_with_the_timeout(scripted, transport):
    taken = threading.Event()
    sender = transport(scripted(lambda _: taken.wait(10)))

    with pytest.raises(ServerUnreachableError, match="did not answer"):
        sender.request("POST", "x", [bytes(50 << 20)], timeout=0.3)
    taken.set()


def test_a_refusal_sent_before_the_whole_request_was_read_is_shown(scripted, transport):
    def refuses(connection):
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    assert transport(scripted(refuses)).request("POST", "x", [bytes(1 << 20)]).status == 413


def test_nothing_listens_is_said_with_the_address(transport):
    with socket.create_server(("127.0.0.1", 0)) as freed:
        url = f"http://127.0.0.1:{freed.getsockname()[1]}"

    with pytest.raises(ServerUnreachableError, match=f"nothing listens at {url}") as caught:
        Transport(Endpoint(url), 5).request("GET", "x")
    assert "host and port" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "grpc://host:1",
        "http://",
        "http://host:port",
        "http://host:99999",
        f"http://{'a' * 70}/",
        "http://user:key@host",
    ],
)
def test_an_address_that_cannot_be_one_is_refused_at_once(url):
    with pytest.raises(SpecError, match="is not the address of a server"):
        Transport(Endpoint(url), 1)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "schlüssel", "\0"])
def test_a_header_that_would_break_the_request_is_refused_without_showing_it(value):
    with pytest.raises(SpecError, match="'Authorization' holds") as caught:
        Transport(Endpoint("http://127.0.0.1:1", headers={"Authorization": value}), 1)
    assert value not in str(caught.value)


def test_threads_have_connections_of_their_own_and_get_their_own_answers(scripted, transport):
    server = scripted(keeps_answering)
    sender = transport(server)
    together = threading.Barrier(8)
    wrong = []

    def ask(thread):
        together.wait()
        for n in range(50):
            sent = b"%d.%d" % (thread, n)
            if (got := sender.request("POST", "x", [sent]).body) != sent:
                wrong.append((sent, got))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert server.accepted == 8


GREENLETS = """
from gevent import monkey

monkey.patch_all({patched})
import sys
import gevent
from tritonnb.client.transport import Transport
from tritonnb.endpoint import Endpoint

transport = Transport(Endpoint(sys.argv[1]), 20)
transport.request("POST", "x", [b"before"])

def ask(n):
    for k in range(20):
        sent = b"%d.%d" % (n, k)
        got = transport.request("POST", "x", [sent]).body
        assert got == sent, (sent, got)

gevent.joinall([gevent.spawn(ask, n) for n in range(8)], raise_error=True)
try:
    transport.request("POST", "waits", timeout=0.2)
except Exception as error:
    assert "did not answer" in str(error), error
else:
    raise AssertionError("no timeout")
print("all answers are right")
"""


@pytest.mark.parametrize("patched", ["", "thread=False"], ids=["all", "all but threads"])
def test_greenlets_of_a_patched_program_get_their_own_answers_and_run_side_by_side(scripted, patched):
    together = threading.Barrier(8)

    def answers_the_first_eight_together(connection):
        while (request := read_request(connection))[0]:
            if request[1].endswith(b".0"):
                together.wait(10)
            if "waits" in request[0]:
                connection.recv(1)
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request[1]) + request[1])

    server = scripted(answers_the_first_eight_together)
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS.format(patched=patched), server.url],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout.strip() == "all answers are right", done.stderr


def test_requests_from_an_event_loops_threads_get_their_own_answers(scripted, transport):
    sender = transport(scripted(keeps_answering))

    async def ask_many():
        sent = [b"%d" % n for n in range(40)]
        got = await asyncio.gather(*(asyncio.to_thread(sender.request, "POST", "x", [body]) for body in sent))
        return sent, [bytes(answer.body) for answer in got]

    sent, got = asyncio.run(ask_many())
    assert got == sent


def test_a_thread_that_ended_leaves_no_connection_open(scripted, transport):
    sender = transport(scripted(keeps_answering))

    thread = threading.Thread(target=sender.request, args=("GET", "x"))
    thread.start()
    thread.join()
    gc.collect()

    assert not list(sender._connections)


def test_close_ends_a_request_that_waits_in_another_thread_and_all_later_ones(scripted, transport):
    waiting = threading.Event()
    errors = []

    def script(connection):
        read_request(connection)
        waiting.set()
        connection.recv(1)

    sender = transport(scripted(script))

    def ask():
        try:
            sender.request("GET", "x")
        except ServerUnreachableError as error:
            errors.append(error.message)

    thread = threading.Thread(target=ask)
    thread.start()
    assert waiting.wait(10)
    sender.close()
    thread.join(10)

    assert len(errors) == 1
    assert "is closed" in errors[0]
    with pytest.raises(ServerUnreachableError, match="is closed"):
        sender.request("GET", "x")


def test_an_interrupted_request_leaves_no_answer_for_the_next_one(scripted, transport):
    reached, interrupted = threading.Event(), threading.Event()

    def answers_after_the_interrupt(connection):
        read_request(connection)
        reached.set()
        interrupted.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    def interrupt():
        reached.wait(10)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    sender = transport(scripted(answers_after_the_interrupt, answers(OK)))
    thread = threading.Thread(target=interrupt)
    thread.start()

    with pytest.raises(KeyboardInterrupt):
        sender.request("GET", "x")
    interrupted.set()
    thread.join()

    assert sender.request("GET", "x").body == b"ok"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_talks_over_a_connection_of_its_own(scripted, transport):
    server = scripted(keeps_answering)
    sender = transport(server)
    sender.request("POST", "x", [b"parent"])

    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if sender.request("POST", "x", [b"child"]).body == b"child" else 2
            sender.close()
        finally:
            os._exit(code)

    assert os.waitpid(child, 0)[1] == 0
    assert sender.request("POST", "x", [b"parent again"]).body == b"parent again"
    assert server.accepted == 2


@pytest.mark.requires("openssl")
def test_https_works_with_a_trusted_certificate_and_only_then(scripted, transport, tmp_path, monkeypatch):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = scripted(keeps_answering, tls=context)

    with pytest.raises(ServerUnreachableError, match="certificate verify failed") as caught:
        transport(server).request("GET", "x")
    assert "certificate" in caught.value.hint

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting = transport(server)
    body = os.urandom(1 << 20)
    assert trusting.request("POST", "x", [body[:5], body[5:]]).body == body
    assert trusting.request("POST", "x", [b"again"]).body == b"again"
    assert server.accepted == 2
