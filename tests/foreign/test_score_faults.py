"""What happens to the workers of an entry script, and to their clients, when something goes wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from score_process import ScoreProcess

from tritonnb.environments import engine_environment

pytestmark = pytest.mark.requires("engine")

ECHO = """
    import json
    def init():
        pass
    def run(data):
        return json.loads(data)
"""
WHOSE = """
    import os
    def init():
        pass
    def run(data):
        return [{generation}, os.getpid()]
"""
MANY = """
    import json, os, re, time
    def init():
        pass
    def run(data):
        wish = json.loads(data)
        if wish == "pid":
            return os.getpid()
        if wish == "hang":
            print("hangs")
            while True:
                time.sleep(0.01)
        if wish == "hang in C":
            re.match("(a+)+$", "a" * 60 + "b")
        if wish == "leave":
            os._exit(7)
        print("sleeps", wish)
        time.sleep(wish)
        return wish
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a tier; all of them are ended."""
    python = engine_environment().python
    with contextlib.ExitStack() as ended:

        def start(script, **plan):
            tier = ScoreProcess(tmp_path / f"tier{len(list(tmp_path.iterdir()))}", python, script, **plan)
            ended.callback(tier.end)
            return tier

        yield start


# Scripts that cannot be served ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "kind", "message", "last_lines"),
    [
        (
            "def init():\n    value = 1\n    raise ValueError('no\\ngood')\ndef run(data): pass\n",
            "init",
            "init() failed: ValueError: no good",
            ["the cell", "line 3, in init", "ValueError: no\ngood"],
        ),
        ("def init(:\n", "import", "the cell cannot be imported: SyntaxError: ", ["the cell", "line 1", "def init(:"]),
        (
            "def inner():\n    import missing_module\ninner()\n",
            "import",
            "the cell cannot be imported: ModuleNotFoundError: No module named 'missing_module'",
            ["line 3, in <module>", "line 2, in inner"],
        ),
        ("def init(): pass\n", "import", "the cell does not define run()", []),
        (
            "def init(): pass\nasync def run(data): pass\n",
            "import",
            "init() and run() of the cell must be plain functions, not async ones",
            [],
        ),
        (
            "import sys\ndef init(): sys.exit('bye')\ndef run(data): pass\n",
            "init",
            "init() failed: SystemExit: bye",
            [],
        ),
        (
            "import os\ndef init(): os._exit(9)\ndef run(data): pass\n",
            "worker",
            "the worker ended with exit code 9 before init() had returned",
            [],
        ),
        (
            "import os\ndef init(): os.kill(os.getpid(), 35)\ndef run(data): pass\n",  # a real-time signal has no name
            "worker",
            "the worker was killed by signal 35 before init() had returned",
            [],
        ),
        (
            "import time\ndef wait():\n    time.sleep(60)\ndef init():\n    wait()\ndef run(data): pass\n",
            "timeout",
            "init() did not return within 0.5 s",
            ["the cell", "line 5, in init", "line 3, in wait"],
        ),
    ],
    ids=["raises", "syntax", "import", "no run", "async", "exit", "_exit", "real-time signal", "hangs"],
)
def test_why_a_script_cannot_be_served_is_told_with_its_own_lines(start, script, kind, message, last_lines):
    tier = start(script, wait=False, shown_as="the cell", init_timeout_s=0.5 if kind == "timeout" else 20)
    state = tier.until(lambda state: state["error"])
    assert (state["state"], state["generation"], state["tried"]) == ("failed", 0, 1)
    error = state["error"]
    assert (error["generation"], error["kind"]) == (1, kind)
    assert error["message"].startswith(message)
    assert "\n" not in error["message"]
    assert [line for line in last_lines if line not in error["traceback"]] == []
    assert "score_host" not in error["traceback"]
    with pytest.raises(ConnectionRefusedError):  # nobody waits for a worker that never comes
        tier.ask()


def test_an_init_that_holds_the_interpreter_is_ended_by_the_master(start):
    script = 'import re\ndef init(): re.match("(a+)+$", "a" * 60 + "b")\ndef run(data): pass\n'
    tier = start(script, wait=False, init_timeout_s=0.2)
    error = tier.until(lambda state: state["error"])["error"]
    assert (error["kind"], error["message"]) == ("timeout", "init() did not return within 0.2 s")


def test_a_script_that_failed_is_served_once_it_is_mended(start):
    tier = start("nonsense", wait=False)
    tier.until(lambda state: state["error"])
    state = tier.reload(ECHO)
    assert (state["state"], state["generation"], state["error"]) == ("ready", 2, None)
    assert tier.run([1]) == [1]


def test_a_port_that_is_taken_is_told(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        tier = start(ECHO, wait=False, port=port)
        assert tier.process.wait(20) == 1
        error = tier.state["error"]
    assert (error["kind"], error["message"]) == ("port", f"port {port} cannot be bound: Address already in use")


def test_a_worker_that_cannot_be_started_is_told(start):
    tier = start(ECHO, wait=False, source_directory="/no/such/folder")
    error = tier.until(lambda state: state["error"])["error"]
    assert error["kind"] == "worker"
    assert error["message"].startswith("a worker cannot be started: [Errno 2] No such file or directory")


# Reload ---------------------------------------------------------------------------------------------------------------


def test_a_script_that_cannot_be_served_does_not_replace_one_that_is(start):
    tier = start(WHOSE.format(generation=1), workers=2)
    before = tier.state
    after = tier.reload("def init(): 1 / 0\ndef run(data): pass\n")
    assert (after["state"], after["generation"], after["tried"]) == ("ready", 1, 2)
    assert after["workers"] == before["workers"]
    assert after["error"]["message"] == "init() failed: ZeroDivisionError: division by zero"
    assert tier.run(0)[0] == 1


def test_no_request_is_lost_while_the_script_is_swapped(start):
    tier = start(WHOSE.format(generation=1), workers=2)
    kept, new, stop = [], [], threading.Event()

    def keep_asking():
        """Ask as a client does that keeps its connection and makes another when it is told that it ends."""
        connection = tier.connect()
        while not stop.is_set():
            status, headers, body = tier.ask(body="0", connection=connection)
            kept.append((status, json.loads(body)[0]))
            if headers["connection"] == "close":
                connection.close()
        connection.close()

    def ask_anew():
        while not stop.is_set():
            status, _, body = tier.ask(body="0")
            new.append((status, json.loads(body)[0]))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(what) for what in (keep_asking, keep_asking, ask_anew, ask_anew)]
        try:
            for generation in range(2, 7):
                tier.reload(WHOSE.format(generation=generation))
                while min(each.count((200, generation)) for each in (kept, new)) < 100:
                    assert not any(client.done() for client in clients)
                    time.sleep(0.005)
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert len(kept) + len(new) >= 1000
    assert {status for status, _ in kept + new} == {200}
    assert {generation for _, generation in kept} == {generation for _, generation in new} == {1, 2, 3, 4, 5, 6}


def test_a_reload_waits_for_the_requests_of_the_old_script(start):
    tier = start(MANY)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(tier.run, 1.5)
        tier.until_logged("sleeps")
        tier.reload(ECHO)
        assert tier.run("new") == "new"
        assert not slow.done()
        assert slow.result() == 1.5
    assert "Traceback" not in tier.log()


def test_a_reload_waits_for_all_that_queue_at_the_old_script(start):
    tier = start(MANY, timeout_s=0.5)  # the last of them waits longer than the 8 s beyond it that a worker may idle
    with ThreadPoolExecutor(24) as pool:
        slow = [pool.submit(tier.run, 0.4) for _ in range(24)]
        tier.until_logged("sleeps")
        tier.reload(ECHO)
        assert [each.result() for each in slow] == [0.4] * 24


def test_old_workers_leave(start):
    tier = start(ECHO)
    old = psutil.Process(tier.state["workers"][0]["pid"])
    tier.reload()
    old.wait(10)


def test_the_newest_of_several_reloads_wins(start):
    tier = start(ECHO)
    tier.reload("import time\ndef init(): time.sleep(60)\ndef run(data): pass\n", wait=False)
    assert tier.reload(WHOSE.format(generation=3))["generation"] == 3
    assert tier.run(0)[0] == 3


# A worker's end -------------------------------------------------------------------------------------------------------


def test_a_call_that_never_returns_is_answered_and_its_worker_replaced(start):
    tier = start(MANY, timeout_s=1.0)
    first = tier.run("pid")
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(tier.ask, body='"hang"')
        tier.until_logged("hangs")
        behind = pool.submit(tier.ask, body="0")
        status, headers, body = stuck.result()
        assert time.monotonic() - began < 2
        assert (status, json.loads(body)) == (500, {"message": "Scoring timeout after 1000 ms"})
        assert headers["x-ms-run-function-failed"] == "True"
        status, headers, body = behind.result()
        assert (status, headers["retry-after"]) == (503, "1")
    assert tier.run("pid") != first  # waits for the new worker
    tier.until(lambda state: state["replaced"] == 1 and state["state"] == "ready")
    assert not psutil.pid_exists(first)
    assert "line 12, in run" in tier.log()


def test_a_call_that_holds_the_interpreter_is_ended_too(start):
    tier = start(MANY, timeout_s=0.3)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        tier.ask(body='"hang in C"')
    assert tier.run(0) == 0
    assert "Z [master] [-] worker 1 does not react; it is killed\n" in tier.log()


def test_other_threads_of_a_worker_end_their_calls_before_it_is_replaced(start):
    tier = start(MANY, timeout_s=1.5, threads=3)
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(tier.ask, body='"hang"')
        time.sleep(0.9)
        beside = pool.submit(tier.ask, body="1")
        assert stuck.result()[0] == 500
        assert not beside.done()
        assert beside.result()[0] == 200
    assert tier.until(lambda state: state["replaced"] == 1)


def test_threads_run_calls_at_the_same_time(start):
    tier = start(MANY, threads=4)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tier.run, [0.5] * 4)) == [0.5] * 4
    assert time.monotonic() - began < 1.5


def test_more_workers_than_there_is_room_for_are_refused_and_those_of_before_go_on(start):
    tier = start(MANY)
    state = tier.reload(MANY, workers=512)
    assert state["error"]["message"] == "there can be 512 workers, those of before that still end included"
    assert tier.run(0) == 0


def test_a_worker_that_is_killed_under_load_is_replaced_and_the_others_serve_on(start):
    tier = start(MANY, workers=2)
    lost, answered, stop = [], [], threading.Event()

    def keep_asking():
        connection = tier.connect()
        while not stop.is_set():
            try:
                answered.append(tier.ask(body="0", connection=connection)[0])
            except (http.client.HTTPException, OSError) as error:
                lost.append(error)
                connection.close()
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(keep_asking) for _ in range(4)]
        try:
            for killed in (1, 2):
                seen = len(answered)
                os.kill(tier.state["workers"][0]["pid"], signal.SIGKILL)
                state = tier.until(
                    lambda state: state["replaced"] == killed and [w["ready"] for w in state["workers"]] == [True, True]  # noqa: B023  (called at once)
                )
                while len(answered) < seen + 200:
                    time.sleep(0.005)
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert [worker["number"] for worker in state["workers"]] == [1, 2]
    assert set(answered) == {200}
    assert len(lost) <= 4 * 2  # at most the one request that each connection had under way


def test_a_script_that_ends_its_process_is_started_again_with_a_growing_back_off(start):
    tier = start(MANY)
    for _ in range(3):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            tier.ask(body='"leave"')
        state = tier.until(lambda state: state["state"] != "ready" or state["error"])
        if state["error"]:
            break
        tier.until(lambda state: state["state"] == "ready")
    assert state["error"]["kind"] == "worker"
    assert state["error"]["message"] == "worker 1 ended with exit code 7 while it served"
    with pytest.raises(ConnectionRefusedError):
        tier.ask(body="0")
    state = tier.until(lambda state: state["state"] == "ready")
    assert state["error"] is None
    assert tier.run(0) == 0


def test_everything_ends_with_the_master_also_when_it_is_killed(start):
    tier = start(MANY, workers=2)
    workers = psutil.Process(tier.process.pid).children()
    tier.process.kill()
    assert psutil.wait_procs(workers, 10)[1] == []


def test_a_tier_ends_at_once_also_in_the_middle_of_a_call(start):
    tier = start(MANY, workers=2)
    workers = psutil.Process(tier.process.pid).children()
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(tier.ask, body='"hang"')
        tier.until_logged("hangs")
        began = time.monotonic()
        assert tier.end() == 0
        assert time.monotonic() - began < 1
        with pytest.raises((http.client.HTTPException, OSError)):
            stuck.result()
    assert psutil.wait_procs(workers, 1)[1] == []


# Clients --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    tier = ScoreProcess(tmp_path_factory.mktemp("echo"), engine_environment().python, ECHO)
    yield tier
    assert tier.end() == 0


def say(tier, *pieces):
    """Send bytes as they are, and return all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", tier.port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 600_000,
        b"POST /" + b"x" * 600_000,
    ],
    ids=["nonsense", "TLS", "length", "two lengths", "chunk", "endless header", "endless path"],
)
def test_what_is_no_http_is_refused_and_leaves_nothing(echo, sent):
    assert say(echo, sent).startswith(b"HTTP/1.1 400 ")
    assert echo.run("next") == "next"


def test_a_path_forges_no_line_of_the_log(echo):
    echo.ask(path="/x%0A2026-01-01T00:00:00.000Z%20[worker%201]%20[-]%20forged", headers={"x-request-id": "a] [b"})
    echo.until_logged("[worker 1] [a???b] POST /x%0A2026")
    assert not [line for line in echo.log().splitlines() if line.endswith("[-] forged")]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_the_client_sees_why(echo, chunked):
    body = (b"x" * 65536 for _ in range(64)) if chunked else b"x" * (1 << 22)
    with contextlib.closing(echo.connect()) as connection:
        connection.request(
            "POST", "/score", body, encode_chunked=chunked, headers={"Transfer-Encoding": "chunked"} if chunked else {}
        )
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read()) == {"message": "The request's body is larger than 1048576 bytes."}
    assert echo.run("next") == "next"


def test_a_body_at_the_limit_is_taken(echo):
    text = "x" * ((1 << 20) - 2)
    assert echo.run(text) == text


def test_a_hundred_slow_clients_keep_nobody_waiting(echo):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", echo.port))) for _ in range(100)]
        for number, connection in enumerate(slow):
            head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12"
            connection.sendall(head[: len(head) if number % 2 else 30])
        began = time.monotonic()
        for _ in range(20):
            assert echo.run("fast") == "fast"
        assert time.monotonic() - began < 2
        slow[1].sendall(b"345")
        assert slow[1].recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_has_gone_is_not_worked_for(start):
    tier = start('import time\ndef init(): pass\ndef run(data):\n    print("ran", data)\n    time.sleep(0.5)\n')
    with contextlib.closing(tier.connect()) as first, contextlib.closing(tier.connect()) as second:
        first.request("POST", "/score", "first")
        tier.until_logged("ran first")
        second.request("POST", "/score", "second")
        time.sleep(0.1)
        second.close()
        first.getresponse().read()
    assert tier.ask(body="third")[0] == 200
    assert "ran third" in tier.log()
    assert "ran second" not in tier.log()
