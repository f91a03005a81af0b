"""The contract of an entry script beyond what it shares with the original (tests/score/test_conformance.py)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from score_process import ScoreProcess

from tritonnb.environments import engine_environment

pytestmark = pytest.mark.requires("engine")

SCRIPT = """
    import json
    import logging
    import os
    import subprocess
    import sys
    import threading

    import numpy as np

    import helper

    def init():
        print("init was called")
        threading.current_thread().mark = "the thread of init()"

    def run(data):
        return globals()[json.loads(data)]()

    def raise_error():
        print("run was called")
        raise ValueError("no good\\n2026-01-01T00:00:00.000Z [worker 9] [-] not a line of the log")

    def place():
        return [os.getcwd(), sys.argv, sys.path[0], __file__, os.environ.get("AML_APP_ROOT"), helper.NAME]

    def thread():
        return [threading.current_thread().mark, threading.current_thread() is threading.main_thread()]

    def array():
        return np.ones(2)

    def log():
        logging.getLogger("mine").info("at level info")
        logging.warning("by the root logger")

    def print_from_elsewhere():
        other = threading.Thread(target=print, args=("from another thread",))
        other.start()
        other.join()
        subprocess.run(["echo", "from a program"], check=True)

    def modules():
        return sorted(name for name in sys.modules if name.partition(".")[0] in {"werkzeug", "supervisor", "container"})
"""
KEYED = """
    def init():
        pass

    def run(data):
        return "seen"
"""


@pytest.fixture(scope="module")
def python():
    return engine_environment().python


def serve(folder, python, script, **plan):
    (folder / "src").mkdir()
    (folder / "src" / "helper.py").write_text('NAME = "beside the script"\n')
    return ScoreProcess(folder, python, script, **plan)


@pytest.fixture(scope="module")
def tier(python, tmp_path_factory):
    tier = serve(tmp_path_factory.mktemp("tier"), python, SCRIPT)
    yield tier
    assert tier.end() == 0


# The script's surroundings --------------------------------------------------------------------------------------------


def test_a_script_runs_in_its_source_directory_and_imports_what_lies_beside_it(tier):
    source, script = str(tier.source), str(tier.source / "score.py")
    assert tier.run("place") == [source, [script], source, script, None, "beside the script"]


def test_a_script_in_a_folder_of_its_own_imports_from_there_and_from_the_source_directory(python, tmp_path):
    inner = tmp_path / "src" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "src" / "above.py").write_text("NAME = 'above'")
    (inner / "beside.py").write_text("NAME = 'beside'")
    (inner / "score.py").write_text(
        "import above, beside\ndef init(): pass\ndef run(data): return [above.NAME, beside.NAME]\n"
    )
    tier = ScoreProcess(tmp_path, python, entry_script=str(inner / "score.py"))
    try:
        assert tier.run(0) == ["above", "beside"]
    finally:
        tier.end()
    assert not list(tmp_path.rglob("__pycache__"))  # the user's folders stay as they are


def test_init_and_run_share_the_main_thread(tier):
    assert tier.run("thread") == ["the thread of init()", True]


def test_a_script_that_wants_no_raw_http_does_not_pay_for_it_and_sees_no_module_of_ours(tier):
    assert tier.run("modules") == []


def test_a_swagger_json_beside_the_script_is_what_is_told(python, tmp_path):
    (tmp_path / "src").mkdir()
    document = tmp_path / "src" / "swagger.json"
    document.write_text('{"swagger": "2.0", "mine": true}')
    tier = ScoreProcess(tmp_path, python, KEYED)
    try:
        assert json.loads(tier.ask("GET", "/swagger.json")[2])["mine"]
        assert json.loads(tier.ask("GET", "/swagger.json?version=3")[2])["openapi"] == "3.0.3"
        document.write_text("{")
        error = tier.reload()["error"]
        assert error["kind"] == "import"
        assert error["message"].startswith("the swagger.json beside the script is no JSON: ")
    finally:
        tier.end()


# The log --------------------------------------------------------------------------------------------------------------


def lines_of(tier, request_id, last="POST /score"):
    """Return what the log says of a request."""
    stamp = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z \[worker 1\] \[{request_id}\] "
    tier.until_logged(f"[{request_id}] {last}")
    return [re.sub(stamp, "", line) for line in tier.log().splitlines() if re.match(stamp, line)]


def test_a_traceback_has_only_the_scripts_frames_and_every_line_of_it_the_requests_id(tier):
    status, headers, body = tier.ask(body='"raise_error"')
    assert status == 500
    assert json.loads(body) == {
        "message": "An unexpected error occurred in scoring script. Check the logs for more info."
    }
    assert headers["x-ms-run-function-failed"] == "True"
    assert headers["x-ms-request-id"] == headers["x-request-id"]
    lines = lines_of(tier, headers["x-request-id"])
    assert lines[:2] == ["run was called", "run() failed: Traceback (most recent call last):"]
    assert [re.sub(".*/", "", line) for line in lines if line.startswith("  File")] == [
        'score.py", line 18, in run',
        'score.py", line 22, in raise_error',
    ]
    assert lines[-3:-1] == ["ValueError: no good", "2026-01-01T00:00:00.000Z [worker 9] [-] not a line of the log"]


def test_what_a_script_logs_is_in_the_log(tier):
    tier.ask(body='"log"', headers={"x-request-id": "logs"})
    assert lines_of(tier, "logs")[:2] == ["INFO:mine:at level info", "WARNING:root:by the root logger"]


def test_what_other_threads_and_programs_of_a_script_print_is_in_the_log(tier):
    tier.run("print_from_elsewhere")
    tier.until_logged("[worker 1] [-] from another thread")
    tier.until_logged("\nfrom a program\n")


def test_why_an_array_cannot_be_sent_is_in_the_log(tier):
    status, headers, _ = tier.ask(body='"array"')
    assert status == 500
    assert "run() returned what cannot be sent, ndarray" in lines_of(tier, headers["x-request-id"])[0]


def test_what_init_prints_is_in_the_log(tier):
    assert "[worker 1] [-] init was called\n" in tier.log()


def test_each_worker_has_its_number_in_the_log(python, tmp_path):
    tier = serve(
        tmp_path, python, "import os\ndef init(): print('booted')\ndef run(data): print(os.getpid())\n", workers=3
    )
    try:
        for number in (1, 2, 3):
            tier.until_logged(f"[worker {number}] [-] booted")
        numbers = {worker["pid"]: worker["number"] for worker in tier.state["workers"]}
        tier.run(0)
        [(number, pid)] = re.findall(r"\[worker (\d)\] \[[^-].*\] (\d+)\n", tier.log())
        assert numbers[int(pid)] == int(number)
    finally:
        tier.end()


# Keys and pages of other origins --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "keys.json").write_text('["one", "tw\\u00f6"]')
    tier = serve(folder, python, KEYED, auth=True, cors_origins=["https://page.example"])
    yield tier
    assert tier.end() == 0


def bearer(key):
    return {"Authorization": f"Bearer {key}".encode()}


@pytest.mark.parametrize("key", ["one", "twö"])
def test_either_key_opens_every_route(keyed, key):
    assert keyed.ask(body="1", headers=bearer(key))[0] == 200
    assert keyed.ask("GET", "/swagger.json", headers=bearer(key))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("other"),
        bearer(""),
        bearer("on"),
        bearer("onee"),
        {"Authorization": "one"},
        {"Authorization": b"\xff"},
    ],
    ids=["none", "other", "empty", "shorter", "longer", "no Bearer", "bytes"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/score"), ("GET", "/swagger.json"), ("OPTIONS", "/score")])
def test_without_a_key_every_route_is_closed(keyed, method, path, headers):
    status, answered, body = keyed.ask(method, path, body="1", headers=headers)
    assert status == 401
    assert answered["www-authenticate"] == "Bearer"
    assert json.loads(body) == {"message": "A key of this deployment is needed: Authorization: Bearer KEY."}
    assert answered["x-request-id"]


def test_health_needs_no_key(keyed):
    assert keyed.ask("GET", "/")[0] == 200


def test_a_page_may_ask_without_a_key_whether_it_may_call(keyed):
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    status, headers, _ = keyed.ask("OPTIONS", headers=asks)
    assert status == 200
    assert headers["access-control-allow-origin"] == "https://page.example"
    assert headers["access-control-allow-headers"] == "authorization"
    refused, headers, _ = keyed.ask(headers=asks)  # and the page sees that it called without one
    assert refused == 401
    assert headers["access-control-allow-origin"] == "https://page.example"


def test_a_new_key_counts_at_once_and_the_old_one_no_more(python, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text('["old", "other"]')
    tier = serve(tmp_path, python, KEYED, auth=True)
    try:
        with contextlib.closing(tier.connect()) as connection:
            for key in ("old", "new", "newer"):
                (tmp_path / "draft").write_text(json.dumps([key, "other"]))
                (tmp_path / "draft").replace(keys)
                wanted = {"old": 401, "new": 401, "newer": 401, key: 200, "other": 200}
                assert {k: tier.ask(headers=bearer(k), connection=connection)[0] for k in wanted} == wanted
        keys.unlink()
        assert tier.ask(headers=bearer("newer"))[0] == 401
    finally:
        tier.end()


def test_keys_are_in_no_argument_no_variable_and_no_line_of_the_log(keyed):
    keyed.ask(headers=bearer("tw\u00f6"))
    for process in (master := psutil.Process(keyed.process.pid), *master.children()):
        assert "tw\u00f6" not in " ".join([*process.cmdline(), *process.environ().values()])
    assert "tw\u00f6" not in keyed.log()


# Connections ----------------------------------------------------------------------------------------------------------


def test_it_listens_on_this_machine_alone(tier):
    listens = {c.laddr.ip for c in psutil.Process(tier.process.pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert listens == {"127.0.0.1"}


def test_connections_are_spread_over_the_workers(python, tmp_path):
    tier = serve(tmp_path, python, "import os\ndef init(): pass\ndef run(data): return os.getpid()\n", workers=3)
    try:
        with contextlib.ExitStack() as stack:
            kept = [stack.enter_context(contextlib.closing(tier.connect())) for _ in range(9)]
            served = [json.loads(tier.ask(body="0", connection=each)[2]) for each in kept]
        assert sorted(served.count(pid) for pid in set(served)) == [3, 3, 3]
    finally:
        tier.end()


def test_a_connection_is_kept_for_many_requests(tier):
    with contextlib.closing(tier.connect()) as connection:
        tier.ask(body='"thread"', connection=connection)
        own = connection.sock.getsockname()
        for _ in range(20):
            assert tier.ask(body='"thread"', connection=connection)[0] == 200
        assert connection.sock.getsockname() == own


def test_requests_that_are_sent_together_are_answered_in_turn(tier):
    request = b'POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\nx-request-id: %d\r\n\r\n"thread"'
    with socket.create_connection(("127.0.0.1", tier.port), timeout=20) as connection:
        connection.sendall(b"".join(request % number for number in range(5)))
        answers = b""
        while answers.count(b"main") + answers.count(b"true]") < 5:
            answers += connection.recv(65536)
    assert re.findall(rb"x-request-id: (\d)", answers) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(tier):
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", tier.port), timeout=20) as connection:
        connection.sendall(head % 8)
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'"thread"')
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    with socket.create_connection(("127.0.0.1", tier.port), timeout=20) as connection:
        connection.sendall(head % (1 << 30))  # told before it sends a gigabyte
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_busy_script_does_not_keep_health_waiting(python, tmp_path):
    script = 'def init(): pass\ndef run(data):\n    print("busy")\n    for n in range(30_000_000): pass\n'
    tier = serve(tmp_path, python, script)
    try:
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(tier.run, 0)
            tier.until_logged("busy")
            began = time.monotonic()
            assert tier.ask("GET", "/")[0] == 200
            assert time.monotonic() - began < 0.5
            assert not busy.done()
    finally:
        tier.end()


# Clients of the script ------------------------------------------------------------------------------------------------


def test_a_script_of_the_article_uses_its_client_in_run(python, tmp_path):
    script = """
        import os
        import tritonclient.http as tritonhttpclient
        from azureml.contrib.services.aml_request import rawhttp
        from azureml.contrib.services.aml_response import AMLResponse

        def init():
            global triton_client
            triton_client = tritonhttpclient.InferenceServerClient(os.environ["TRITON_URL"])

        @rawhttp
        def run(request):
            if request.method == "POST":
                picture = request.get_data(False)
                return AMLResponse(f"{len(picture)} bytes, {triton_client.is_server_live()}", 200)
            return AMLResponse("bad request", 500)
    """
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer():
            connection, _ = server.accept()
            with connection:
                for _ in range(2):
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        pool.submit(answer)
        variables = {"PATH": os.environ["PATH"], "TRITON_URL": f"127.0.0.1:{server.getsockname()[1]}"}
        tier = serve(tmp_path, python, script, variables=variables)
        try:
            for size in (10, 1000):
                status, headers, body = tier.ask(body=bytes(size), headers={"Content-Type": "application/octet-stream"})
                assert (status, body) == (200, f"{size} bytes, True".encode())
                assert headers["content-type"] == "text/html; charset=utf-8"
            assert tier.ask("GET")[::2] == (500, b"bad request")
        finally:
            tier.end()


def test_a_response_cannot_break_the_framing_of_its_connection(python, tmp_path):
    script = """
        from azureml_inference_server_http.api.aml_request import rawhttp
        from azureml_inference_server_http.api.aml_response import AMLResponse

        def init():
            pass

        @rawhttp
        def run(request):
            headers = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Connection": "close", "X-Mine": "mine"}
            return AMLResponse("text", 200, headers)
    """
    tier = serve(tmp_path, python, script)
    try:
        with contextlib.closing(tier.connect()) as connection:
            for _ in range(2):
                status, headers, body = tier.ask(connection=connection)
                assert (status, body, headers["x-mine"]) == (200, b"text", "mine")
                assert (headers["content-length"], headers["connection"]) == ("4", None)
    finally:
        tier.end()
