"""The same scripts through Microsoft's azureml-inference-server-http 1.5.1 and through ours.

Status, headers, body and log are compared. Every difference is in `DIFFERENCES`, with its reason; one that is not
there fails, and one that is there and not seen fails too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from azmlinfsrv import OriginalHost, install
from score_cases import CASES, SCRIPTS, Case
from score_process import ScoreProcess

from tritonnb.environments import overlay

pytestmark = pytest.mark.requires("engine")

TIME_LIMIT_S = 0.5
WENT_WRONG = '{"message": "An unexpected error occurred in scoring script. Check the logs for more info."}'
FILES = {"cors": "headers", "cors_all": "headers"}  # one script, served in two more ways
VARIABLES = {
    "slow": {"SCORING_TIMEOUT_MS": str(round(TIME_LIMIT_S * 1000))},
    "cors": {"AML_CORS_ORIGINS": "https://a.example, https://b.example"},
    "cors_all": {"AML_CORS_ORIGINS": "*"},
}
PLAN = {
    "slow": {"timeout_s": TIME_LIMIT_S},
    "cors": {"cors_origins": ["https://a.example", "https://b.example"]},
    "cors_all": {"cors_origins": ["*"]},
}
ANYTHING = ...


@dataclass(frozen=True)
class Difference:
    """Where ours does not answer as the original does, and why.

    The cases may be a pattern; what was seen of the two hosts may be `ANYTHING`.
    """

    cases: str
    field: str
    original: object
    ours: object
    because: str

    def explains(self, case, name, original, ours):
        return (
            fnmatchcase(case.name, self.cases)
            and name == self.field
            and self.original in (ANYTHING, original)
            and self.ours in (ANYTHING, ours)
        )


SAYS_METHODS = "RFC 9110: a 405 says which methods are allowed"
HAS_ID = "trap 8: every answer can be found in the log"
LOGGED = "every request but one to / has its line in the log, under its id"
SENT_WHOLE = "an answer in pieces is the script's code too: it runs in the script's thread, within the time limit"
OTHER_WORKER = (
    "sys.exit() in run() ends the original's worker, with an answer of gunicorn's; ours stays, and says what it was"
)
NOT_OURS = "a TimeoutError of the script's own is no scoring timeout; the original takes it for one"
BY_FORM = "trap 4: what curl sends without a content type is the data all the same"
WILDCARD = "says the same as * itself"
NO_PAGE = "a request that no page sent is told nothing of pages"

DIFFERENCES = (
    Difference("*", "header server", "gunicorn", "tritonnb", "another server, which does not tell its version"),
    Difference("*", "header connection", "close", None, "trap 3: connections are kept alive"),
    Difference("*", "header x-ms-server-version", "azmlinfsrv/1.5.1", None, "it is not that server"),
    *(
        Difference(cases, f"header {name}", None, "UUID", HAS_ID)
        for cases in ("refused *", "not found*")
        for name in ("x-request-id", "x-ms-request-id")
    ),
    Difference("refused *", "header allow", None, ANYTHING, SAYS_METHODS),
    Difference("refused *", "log: access", "", ANYTHING, LOGGED),
    Difference("not found*", "log: access", "", ANYTHING, LOGGED),
    Difference("long *", "log: access", "", "POST /score 431 MSms LENGTH", LOGGED),
    Difference("empty id", "header x-request-id", None, "UUID", "an empty id is none: one is made"),
    Difference("empty id", "header x-ms-request-id", None, "UUID", "an empty id is none: one is made"),
    Difference("curl's content type", "body", ANYTHING, ANYTHING, BY_FORM),
    Difference("do: log information", "log: printed", "", "say: by the way", "what a script logs is in the log"),
    Difference("do: fail by time", "body", '{"message": "Scoring timeout after 3600000 ms"}', WENT_WRONG, NOT_OURS),
    Difference("do: fail by time", "log: errors", "", "TimeoutError: of the script's own", NOT_OURS),
    Difference("do: fail by time", "log: lines", "", ANYTHING, NOT_OURS),
    Difference("do: leave", "body", ANYTHING, WENT_WRONG, OTHER_WORKER),
    Difference("do: leave", "header content-type", "text/html", "application/json", OTHER_WORKER),
    Difference("do: leave", "header x-ms-run-function-failed", None, "True", OTHER_WORKER),
    Difference("do: leave", "header x-request-id", None, "UUID", OTHER_WORKER),
    Difference("do: leave", "header x-ms-request-id", None, "UUID", OTHER_WORKER),
    Difference("do: leave", "header server", None, "tritonnb", OTHER_WORKER),
    Difference("do: leave", "header date", None, "DATE", OTHER_WORKER),
    Difference("do: leave", "log: access", "", "POST /score 500 MSms LENGTH", OTHER_WORKER),
    Difference("too slow", "log: lines", "", "12", "the log says where run() was when its time was over"),
    *(
        Difference(
            "raw send_werkzeugs", name, ANYTHING, ANYTHING, "werkzeug's own response is one too, not only Flask's"
        )
        for name in (
            "status",
            "body",
            "header content-type",
            "header x-ms-run-fn-exec-ms",
            "header x-ms-run-function-failed",
            "log: access",
            "log: errors",
        )
    ),
    Difference("swagger of *", "body schemes", ["https"], ["http"], "it is served over HTTP, on this machine"),
    Difference("raw send_length", "header content-length", "4, 4", "LENGTH", "a length is said once"),
    Difference("raw send_pieces", "header transfer-encoding", "chunked", None, SENT_WHOLE),
    Difference("raw send_pieces", "header content-length", None, "LENGTH", SENT_WHOLE),
    Difference("raw send_pieces", "log: access", ANYTHING, ANYTHING, SENT_WHOLE),
    Difference("page of none", "header access-control-allow-origin", "https://a.example", None, NO_PAGE),
    Difference("page of none", "header vary", "Origin", None, NO_PAGE),
    Difference("page * any", "header access-control-allow-origin", "https://a.example", "*", WILDCARD),
    Difference("page * any", "header vary", "Origin", None, WILDCARD),
)

VOLATILE = {
    re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"): "UUID",
    re.compile(r"\b\d+\.\d{3}(ms)?\b"): r"MS\1",
    re.compile(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT"): "DATE",
}
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d [\d:,]{12} [A-Z] \[\d+\] [\w.]+ - |[\dT:.-]{23}Z \[worker 1\] \[[^\]]*\] )")


def serve_ours(python, folder, files, variables, **plan):
    """Start ours on a script."""
    variables = {"PATH": os.environ["PATH"], "TRITONNB_TEST_SESSION": os.environ["TRITONNB_TEST_SESSION"]} | variables
    for file, text in files.items():
        (folder / "src" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / file).write_text(text)
    script = str(folder / "src" / next(iter(files)))
    return ScoreProcess(folder, python, wait=False, variables=variables, entry_script=script, **plan)


class Pair:
    """One script, served by both."""

    def __init__(self, name, environments, folder, variables):
        original, ours = environments
        script = (SCRIPTS / f"{FILES.get(name, name)}.py").read_text()
        files = {"score.py": script, "helper.py": (SCRIPTS / "helper.py").read_text()}
        self.original = OriginalHost(original, folder / "original", files, VARIABLES.get(name, {}) | variables)
        self.ours = serve_ours(ours, folder / "ours", files, variables, **PLAN.get(name, {}))

    def wait(self):
        assert self.original.wait(), self.original.log()
        self.ours.until(lambda state: state["state"] == "ready")

    def end(self):
        self.original.end()
        self.ours.end()


def seen(host, case):
    """Send a request, and return all that can be seen of its answer, without what is another each time."""
    before = len(host.log())
    body = case.body if not isinstance(case.body, tuple) else iter(case.body)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)) as connection:
        connection.request(case.method, case.path, body, case.headers, encode_chunked=isinstance(case.body, tuple))
        response = connection.getresponse()
        answer = {"status": response.status, "body": response.read().decode("latin-1")}
    for name in {name.lower() for name in response.headers}:
        values = ", ".join(response.headers.get_all(name))
        answer[f"header {name}"] = values if name == "date" else ", ".join(sorted(values.split(", ")))
    if answer["body"] and answer.get("header content-length") == str(len(answer["body"])):
        answer["header content-length"] = "LENGTH"
    answer |= of_log(log_after(host, before, case), len(answer["body"]))
    if case.path.startswith("/swagger.json") and response.status == http.HTTPStatus.OK:
        answer |= leaves(json.loads(answer.pop("body")), "body")
    return {name: steady(value) for name, value in answer.items()}


def steady(value):
    for pattern, word in VOLATILE.items():
        value = pattern.sub(word, value) if isinstance(value, str) else value
    return value


def leaves(document, name):
    """Return an OpenAPI document piece by piece, without what it says to people, which is ours."""
    if isinstance(document, list) and document and isinstance(document[0], dict):
        document = {str(number): each for number, each in enumerate(document)}
    if not isinstance(document, dict):
        return {name: document}
    inner = [leaves(value, f"{name} {key}") for key, value in document.items() if key != "description"]
    return {name: value for each in inner for name, value in each.items()}


def log_after(host, before, case):
    """Return what was logged of a request; its access line, the last, comes after the answer."""
    last = re.compile(rf'(gunicorn.access.*"|\] ){case.method} {re.escape(case.path)}')
    deadline = time.monotonic() + 1
    while case.path != "/" and not last.search(host.log()[before:]) and time.monotonic() < deadline:
        time.sleep(0.002)
    return host.log()[before:]


def of_log(text, length):
    """Return what a log says of the script and of the request; what the hosts say of themselves is left out."""
    lines = [STAMP.sub("", line) for line in text.splitlines()]
    access = "\n".join(line for line in lines if re.match(r"[A-Z]+ /", line))
    return {
        "log: printed": "\n".join(line[line.index("say:") :] for line in lines if "say:" in line),
        "log: access": re.sub(rf" {length}$", " LENGTH", access),
        "log: errors": "\n".join(line for line in lines if re.match(r"(\w+Error|SystemExit)\b", line)),
        "log: lines": " ".join(re.findall(r'score\.py", line (\d+)', text)),
    }


@pytest.fixture(scope="module")
def model_server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"name": "m"}')

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def environments():
    return install(Path(os.environ["TRITONNB_HOME"])), overlay(["inference-schema==1.8"]).python


@pytest.fixture(scope="module")
def answers(environments, tmp_path_factory, model_server):
    """Every case's answers: the original's and ours."""
    names = dict.fromkeys(case.script for case in CASES)
    variables = {"TRITON_URL": model_server}
    pairs = {name: Pair(name, environments, tmp_path_factory.mktemp(name), variables) for name in names}
    try:
        for pair in pairs.values():
            pair.wait()
        return {
            case.name: [seen(host, case) for host in (pairs[case.script].original, pairs[case.script].ours)]
            for case in CASES
        }
    finally:
        for pair in pairs.values():
            pair.end()


def differences(answers, case):
    """Return in what the answers to a case differ."""
    original, ours = answers[case.name]
    names = sorted(original.keys() | ours.keys())
    return {name: (original.get(name), ours.get(name)) for name in names if original.get(name) != ours.get(name)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_script_answers_as_under_the_original_host(answers, case):
    unexplained = {
        name: two
        for name, two in differences(answers, case).items()
        if not any(known.explains(case, name, *two) for known in DIFFERENCES)
    }
    assert unexplained == {}


@pytest.mark.parametrize("known", DIFFERENCES, ids=lambda known: f"{known.cases}: {known.field}")
def test_a_listed_difference_is_there(answers, known):
    assert any(known.explains(case, name, *two) for case in CASES for name, two in differences(answers, case).items())


REFUSED = {
    "import": "ImportError: say: not importable",
    "exit while imported": "SystemExit: say: exit",
    "init": "ValueError: say: init is no good",
    "exit in init": "SystemExit: 4",
    "no init": "init()",
    "no run": "run()",
    "run without an argument": "argument",
    "run with any arguments": "*args",
    "run with headers alone": "argument",
    "raw and described": "@rawhttp and @input_schema",
}


@pytest.fixture(scope="module")
def refusals(environments, tmp_path_factory):
    """What both hosts log of scripts that cannot be served."""
    original, ours = environments
    files = {"score.py": (SCRIPTS / "broken.py").read_text()}
    started = {}
    for how in REFUSED:
        folder = tmp_path_factory.mktemp("broken")
        started[how] = (
            OriginalHost(original, folder / "original", files, {"HOW": how}),
            serve_ours(ours, folder / "ours", files, {"HOW": how}),
        )
    try:
        logs = {}
        for how, (theirs, mine) in started.items():
            assert not theirs.wait()
            state = mine.until(lambda state: state["state"] != "starting")
            logs[how] = (theirs.log(), f"{state['error']['message']}\n{state['error']['traceback']}", state)
        return logs
    finally:
        for theirs, mine in started.values():
            theirs.end()
            mine.end()


@pytest.mark.parametrize("how", REFUSED)
def test_a_script_that_the_original_refuses_is_refused_for_the_same_reason(refusals, how):
    original, ours, state = refusals[how]
    assert REFUSED[how] in original
    assert REFUSED[how] in ours
    assert state["state"] == "failed"
    assert state["error"]["kind"] == ("init" if how in {"init", "exit in init"} else "import")
    lines = re.findall(r'score\.py", line (\d+)', original)
    assert set(re.findall(r'score\.py", line (\d+)', ours)) == set(lines)


# Beside requests: what else the original is known for -----------------------------------------------------------------

ECHO = "def init(): pass\ndef run(data): return data\n"


@pytest.fixture
def both(environments, tmp_path):
    """Return a function that serves files by both hosts, ready or ended."""
    original, ours = environments
    with contextlib.ExitStack() as ended:

        def both(files, variables=None, **plan):
            theirs = OriginalHost(original, tmp_path / "original", files, variables or {})
            ended.callback(theirs.end)
            mine = serve_ours(ours, tmp_path / "ours", files, {}, **plan)
            ended.callback(mine.end)
            mine.until(lambda state: state["state"] == "ready")
            return theirs, mine, theirs.wait()

        yield both


def listens_on(process):
    everyone = [process, *process.children(recursive=True)]
    return {c.laddr.ip for each in everyone for c in each.net_connections() if c.status == psutil.CONN_LISTEN}


def test_traps_1_2_3_and_7_the_original_listens_everywhere_knows_no_key_keeps_no_connection_has_a_socket(both):
    (theirs, ours, _) = both({"score.py": ECHO}, auth=True)
    (ours.folder / "keys.json").write_text('["key"]')
    assert listens_on(psutil.Process(theirs.process.pid)) == {"0.0.0.0"}  # noqa: S104  (this is what is wrong)
    assert listens_on(psutil.Process(ours.process.pid)) == {"127.0.0.1"}
    wrong = Case("", "", "1", headers={"Authorization": "Bearer wrong"})
    assert [seen(host, wrong)["status"] for host in (theirs, ours)] == [200, 401]
    assert list(theirs.source.parent.rglob("gunicorn.ctl"))
    assert not list(ours.folder.rglob("*.ctl"))


def test_trap_5_the_original_imports_no_helper_beside_a_script_in_another_folder(both):
    theirs, ours, serves = both({"inner/score.py": "import helper\n" + ECHO, "inner/helper.py": ""})
    assert not serves
    assert "No module named 'helper'" in theirs.log()
    assert ours.run(1) == "1"


def test_trap_6_the_original_takes_any_config_json_beside_the_script_for_its_own(both):
    theirs, ours, serves = both(
        {"score.py": ECHO, "config.json": '{"scoring_timeout": "my own setting", "SCORING_TIMEOUT_MS": "x"}'}
    )
    assert not serves
    assert "Configuration Error" in theirs.log()
    assert ours.run(1) == "1"
