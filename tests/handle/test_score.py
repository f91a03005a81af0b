"""A deployment with an entry script: asked, changed, swapped and ended with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from wheels import write_wheel

import tritonnb as tn
from tritonnb import records
from tritonnb.errors import (
    DeploymentError,
    EntryScriptError,
    PortInUseError,
    ScoringError,
    ServerUnreachableError,
    SpecError,
    TritonNbError,
)
from tritonnb.home import home

pytestmark = pytest.mark.requires("engine")

# A client of its own thread, made in init(), as the article's scripts have one.
SCRIPT = """\
import json, os
import numpy
import tritonclient.http as http
import helper

def init():
    global client
    key = os.environ.get("TRITON_AUTHORIZATION")
    client = http.InferenceServerClient(os.environ["TRITON_URL"])
    headers = {"Authorization": key} if key else {}
    assert client.is_server_live(headers=headers)

def run(data):
    told = json.loads(data)
    if told == "fail":
        raise ValueError("no such picture")
    if told == "tell":
        names = ("TRITON_URL", "TRITON_GRPC_URL", "TRITON_METRICS_URL", "TRITON_AUTHORIZATION", "AML_APP_ROOT",
                 "AZUREML_MODEL_DIR", "WORKER_COUNT")
        return {**{name: os.environ.get(name) for name in names}, "pid": os.getpid(), "helper": helper.VERSION}
    x = numpy.array(told, numpy.float32)
    tensor = http.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    key = os.environ.get("TRITON_AUTHORIZATION")
    headers = {"Authorization": key} if key else {}
    return client.infer("square", [tensor], headers=headers).as_numpy("y").tolist()
"""
ECHO = "def init(): pass\ndef run(data): return data\n"
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def write(folder: Path, script: str = SCRIPT, version: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "score.py").write_text(script)
    (folder / "helper.py").write_text(f"VERSION = {version}\n")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory, square):
    """The article's folder with one model."""
    file = tmp_path_factory.mktemp("prefix") / "models" / "triton" / "square" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(square)
    return file.parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def scored(models, source):
    """A deployment with an entry script; each test leaves it as it was."""
    score = {"entry_script": "score.py", "source_directory": source, "port": 0}
    with tn.deploy(models, name="scored", engine="embedded", score=score) as deployment:
        yield deployment


@contextmanager
def under_load(deployment, threads: int = 3):
    """Send requests without a pause; every one must be answered right."""
    wrong, answered = [], []
    done = threading.Event()
    key = deployment.get_keys()[0]

    def work():
        while not done.is_set():
            request = urllib.request.Request(deployment.scoring_uri, b"[[1, 2, 3, 4]]")
            request.add_header("Authorization", f"Bearer {key}")
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answered.append(json.loads(answer.read()))
            except OSError as error:
                wrong.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield answered
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert wrong == []
    assert answered


def told(deployment):
    return deployment.run('"tell"')


# Asking -------------------------------------------------------------------------------------------------------------


def test_the_script_asks_triton_and_answers(scored):
    np.testing.assert_array_equal(scored.run(X), X * X)


def test_the_script_knows_where_triton_and_the_models_files_are(scored, models, source):
    facts = told(scored)

    assert facts["TRITON_URL"] == scored.url.removeprefix("http://")
    assert (facts["TRITON_GRPC_URL"], facts["TRITON_METRICS_URL"]) == (scored.grpc_url, scored.metrics_url)
    assert facts["TRITON_AUTHORIZATION"] is None
    assert Path(facts["AZUREML_MODEL_DIR"], "models/triton/square/1/model.onnx").is_file()
    assert (facts["AML_APP_ROOT"], facts["WORKER_COUNT"]) == (str(source), "1")


def test_azure_ml_s_words_tell_where_it_answers(scored):
    base = scored.scoring_uri.removesuffix("/score")
    with urllib.request.urlopen(base) as answer:
        assert answer.read() == b"Healthy"
    with urllib.request.urlopen(scored.swagger_uri) as answer:
        assert "/score" in json.loads(answer.read())["paths"]
    facts = scored.serialize()
    assert (facts["name"], facts["state"], facts["computeType"]) == ("scored", "running", "Local")
    assert (facts["scoringUri"], facts["swaggerUri"]) == (scored.scoring_uri, scored.swagger_uri)
    assert base.endswith(f":{facts['port']}")
    assert scored.get_keys()[0] not in json.dumps(facts)


def test_a_request_that_fails_tells_the_script_s_own_line(scored):
    with pytest.raises(
        ScoringError, match=r"ValueError: no such picture\n  score.py, line 16, in run: raise"
    ) as caught:
        scored.run('"fail"')

    error = caught.value
    assert (error.status, "POST" in str(error)) == (500, False)
    assert error.traceback.startswith("Traceback (most recent call last):")
    assert error.traceback.endswith("ValueError: no such picture")
    assert f"[{error.request_id}] ValueError: no such picture" in scored.get_logs()


def test_the_logs_of_server_and_script_are_told_apart(scored):
    for _ in range(3):
        told(scored)
    logs = str(scored.get_logs())

    server, _, script = logs.partition("\n==> entry script <==\n")
    assert server.startswith("==> tritonserver <==\n")
    assert "successfully loaded 'square'" in server
    assert "[worker 1] " in script
    assert "successfully loaded" not in script
    assert len(str(scored.get_logs(3)).splitlines()) == 2 * (1 + 3) + 1


def test_shown_where_outputs_must_stay_the_same_a_log_is_without_times_and_numbers(scored):
    told(scored)

    script = repr(scored.get_logs()).partition("==> entry script <==\n")[2]

    assert script.splitlines()[-1].startswith("[worker 1] POST /score 200 ")
    assert "ms" not in script.splitlines()[-1]


def test_the_health_and_the_repr_tell_how_the_script_is(scored):
    assert scored.health().script == "ready, 1 worker"
    assert "entry script: ready, 1 worker" in repr(scored.health())
    assert "entry script: ready, 1 worker" in repr(scored)


def test_ps_shows_the_port_and_the_command_line_the_log(scored, capsys):
    from tritonnb.cli import main

    assert main(["ps", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "scored"]
    assert row["scoring_uri"] == scored.scoring_uri
    assert row["state"] == "ready"
    told(scored)
    assert main(["logs", "scored", "--lines", "2"]) == 0
    assert "==> entry script <==" in capsys.readouterr().out


# Changing -----------------------------------------------------------------------------------------------------------


def test_a_change_of_the_script_alone_leaves_the_server(scored):
    url, before = scored.url, told(scored)["pid"]
    scored.update(score={"workers": 2}, timeout=60)

    assert scored.url == url
    assert scored.spec.score.workers == 2
    assert scored.health().script == "ready, 2 workers"
    assert told(scored)["WORKER_COUNT"] == "2"

    scored.update(score={"workers": 1})
    assert told(scored)["pid"] != before


def test_a_new_server_is_known_to_the_script_before_the_old_one_ends(scored):
    url, before = scored.url, scored.scoring_uri
    with under_load(scored) as answered:
        scored.restart()
        count = len(answered)
        while len(answered) < count + 20:
            time.sleep(0.01)

    assert scored.url != url
    assert told(scored)["TRITON_URL"] == scored.url.removeprefix("http://")
    assert scored.scoring_uri == before


def test_changed_files_are_taken_over_without_a_request_dropped(scored, source):
    try:
        with under_load(scored) as answered:
            for version in (2, 3):
                write(source, version=version)
                scored.reload()
                assert told(scored)["helper"] == version
        assert all(answer == [[1, 4, 9, 16]] for answer in answered)
    finally:
        write(source)
        scored.reload()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "import no_such_module\n",
            r"could not be imported: ModuleNotFoundError.*\n  score.py, line 1: import no_such",
        ),
        ("def init(:\n", r"could not be imported: SyntaxError"),
        (
            f"{ECHO}def init():\n    raise KeyError('weights')\n",
            r"init\(\) failed: KeyError: 'weights'\n  score.py, line 4",
        ),
        ("def init(): pass\n", r"run"),
        (
            f"import os\n{ECHO}def init():\n    print('no licence')\n    os._exit(9)\n",
            r"could not be started: the worker ended with exit code 9 .*Last lines.* no licence\n",
        ),
    ],
    ids=["import", "syntax", "init", "no run", "end of the process"],
)
def test_a_script_that_cannot_be_started_says_why_and_the_one_of_before_goes_on(scored, source, script, said):
    before = told(scored)["pid"]
    try:
        write(source, script)
        with pytest.raises(EntryScriptError, match=f"(?s){said}"):
            scored.reload()
        assert told(scored)["pid"] == before
        assert (scored.state, scored.health().script) == ("ready", "ready, 1 worker")
    finally:
        write(source)


def test_a_change_that_fails_leaves_the_spec(scored, source):
    (source / "bad.py").write_text("def init(): raise KeyError('weights')\ndef run(data): pass\n")

    with pytest.raises(EntryScriptError, match=r"bad.py, line 1, in init"):
        scored.update(score={"entry_script": "bad.py"})

    assert scored.spec.score.entry_script == "score.py"
    np.testing.assert_array_equal(scored.run(X), X * X)


def test_a_change_of_models_and_script_is_made_whole_or_not_at_all(scored, source, tmp_path, square):
    (tmp_path / "other.onnx").write_bytes(square)
    (source / "bad.py").write_text("def init(): raise KeyError('weights')\ndef run(data): pass\n")
    before, spec = told(scored)["pid"], scored.spec

    with pytest.raises(EntryScriptError, match="weights"):
        scored.update(models={"other": tmp_path / "other.onnx"}, score={"entry_script": "bad.py"})

    assert scored.spec == spec
    assert [(m.name, m.state) for m in scored.models() if m.reason != "unloaded"] == [("square", "READY")]
    assert told(scored)["pid"] == before


def test_an_update_that_names_a_script_takes_a_cell_s_place_and_if_it_fails_does_not(scored, source):
    (source / "bad.py").write_text("def init(): raise KeyError('weights')\ndef run(data): pass\n")
    scored.write_score(ECHO, port=0)
    for changes in ({}, {"restart": "on-failure"}):
        with pytest.raises(EntryScriptError, match="weights"):
            scored.update(score={"entry_script": "bad.py"}, **changes)
        assert scored.run("of the cell") == "of the cell"

    scored.update(score={"workers": 1})
    assert scored.run("of the cell") == "of the cell"

    scored.update(score={"entry_script": "score.py"})
    np.testing.assert_array_equal(scored.run(X), X * X)
    scored.reload()
    np.testing.assert_array_equal(scored.run(X), X * X)


def test_deployed_again_with_the_same_spec_it_is_started_anew_only_if_its_files_changed(scored, source):
    scored.reload()
    before = told(scored)["pid"]
    assert tn.deploy(scored.spec) is scored
    assert told(scored)["pid"] == before

    write(source, "def init(:\n")
    for _ in range(2):  # it is not forgotten that the files are other ones than those that serve
        with pytest.raises(EntryScriptError, match="SyntaxError"):
            tn.deploy(scored.spec)
    write(source, version=5)
    assert tn.deploy(scored.spec) is scored
    assert told(scored)["helper"] == 5
    write(source)
    tn.deploy(scored.spec)


def test_a_worker_that_is_killed_is_replaced(scored, eventually):
    psutil.Process(told(scored)["pid"]).kill()

    assert eventually(lambda: scored.state == "ready")
    np.testing.assert_array_equal(scored.run(X), X * X)


def test_without_its_processes_it_is_degraded_and_a_reload_starts_them_again(scored, eventually):
    uri = scored.scoring_uri
    psutil.Process(told(scored)["pid"]).parent().kill()

    assert eventually(lambda: scored.state == "degraded")
    assert "was killed by signal 9" in scored.health().script
    with pytest.raises(ServerUnreachableError):
        scored.run(X)

    scored.reload()
    assert (scored.state, scored.scoring_uri == uri) == ("ready", True)
    np.testing.assert_array_equal(scored.run(X), X * X)


def test_another_port_is_another_address_and_the_old_one_is_closed(scored):
    uri = scored.scoring_uri
    with tn.deploy(name="lender", engine="embedded", score={**scored.spec.score.model_dump(), "port": 0}) as lender:
        port = int(lender.serialize()["port"])
        with pytest.raises(PortInUseError, match=f"Port {port} of 127.0.0.1.*taken"):
            scored.update(score={"port": port})
        assert scored.scoring_uri == uri
        assert told(lender)["helper"] == 1  # two deployments, two tiers

    scored.update(score={"port": port})

    assert scored.scoring_uri == f"http://127.0.0.1:{port}/score"
    np.testing.assert_array_equal(scored.run(X), X * X)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(uri.removesuffix("/score"))
    scored.update(score={"port": 0})
    assert scored.scoring_uri == f"http://127.0.0.1:{port}/score"


# Beginning and end ----------------------------------------------------------------------------------------------------


def test_a_script_that_cannot_be_started_fails_the_deployment_with_its_own_error(tmp_path, models, name, left_behind):
    write(tmp_path, f"{ECHO}def init():\n    raise RuntimeError('no weights here')\n")

    with pytest.raises(
        EntryScriptError, match=r"RuntimeError: no weights here\n  score.py, line 4, in init: raise"
    ) as e:
        tn.deploy(models, name=name, entry_script="score.py", source_directory=tmp_path, port=0)

    assert "Did your init method fail" not in str(e.value)
    assert not left_behind(name)


def test_not_waited_for_it_has_failed_and_its_log_can_be_read(tmp_path, models, name, capsys):
    write(tmp_path, "print('hello from here')\ndef init(): raise KeyError('w')\ndef run(data): pass\n")
    score = {"entry_script": "score.py", "source_directory": tmp_path, "port": 0}
    with tn.deploy(models, name=name, wait=False, score=score) as deployment:
        with pytest.raises(EntryScriptError, match="KeyError: 'w'"):
            deployment.wait_for_deployment(show_output=True)
        shown = capsys.readouterr().out
        assert shown.index("successfully loaded 'square'") < shown.index("==> entry script <==") < shown.index("hello")
        assert deployment.state == "failed"
        assert "hello from here" in deployment.get_logs()


@pytest.mark.parametrize("changes", [{}, {"restart": "on-failure"}], ids=["the script alone", "and the server"])
def test_a_script_that_an_update_brings_and_that_cannot_be_started_leaves_the_deployment_without(
    tmp_path, models, name, changes
):
    write(tmp_path, "def init(): raise KeyError('w')\ndef run(data): pass\n")
    score = {"entry_script": "score.py", "source_directory": tmp_path, "port": 0}
    with tn.deploy(models, name=name) as deployment:
        with pytest.raises(EntryScriptError, match="KeyError: 'w'"):
            deployment.update(score=score, **changes)
        assert (deployment.state, deployment.swagger_uri, deployment.spec.score) == ("ready", "", None)
        assert not list(home().glob(f"score/{name}-*"))

        write(tmp_path)
        deployment.update(score=score, **changes)
        np.testing.assert_array_equal(deployment.run(X), X * X)


@pytest.mark.parametrize("entry_script", ["scroe.py", "no/such.py"])
def test_a_script_that_is_not_there_is_told_before_anything_is_started(tmp_path, models, name, entry_script):
    write(tmp_path)

    with pytest.raises(SpecError, match=r"no entry script .*\n.*score\.py"):
        tn.deploy(models, name=name, entry_script=entry_script, source_directory=tmp_path)


def test_a_port_that_is_taken_is_told(tmp_path, models, name, scored):
    write(tmp_path)
    port = scored.serialize()["port"]

    with pytest.raises(PortInUseError, match=rf"Port {port} .*\n.*0 is a free one"):
        tn.deploy(models, name=name, entry_script="score.py", source_directory=tmp_path, port=port)


def test_a_port_that_is_taken_after_it_was_chosen_is_told_as_any_other(tmp_path, models, name, monkeypatch):
    with socket.socket() as thief, tn.deploy(models, name=name) as deployment:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        port = thief.getsockname()[1]
        monkeypatch.setattr("tritonnb.score.tier.free_ports", lambda _: [port])  # it was, when it was looked at

        with pytest.raises(PortInUseError, match=f"Port {port} of 127.0.0.1.*taken"):
            deployment.write_score(ECHO, port=port)

        assert (deployment.swagger_uri, deployment.state) == ("", "ready")


def test_without_a_script_run_says_what_to_do(models, name):
    with tn.deploy(models, name=name) as deployment:
        assert (deployment.scoring_uri, deployment.swagger_uri) == (deployment.url, "")
        assert deployment.health().script == ""
        with pytest.raises(DeploymentError, match=r"has no entry script.\n.*%%triton_score"):
            deployment.run([1])


def test_the_count_of_workers_may_come_from_the_environment_s_variables(tmp_path, models, name):
    options = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    with tn.deploy(
        models, name=name, environment_variables={"WORKER_COUNT": "2", "LEVEL": "3"}, **options
    ) as deployment:
        assert deployment.health().script == "ready, 2 workers"
        assert told(deployment)["WORKER_COUNT"] == "2"

        report = deployment.measure_run("[[1, 2, 3, 4]]", concurrency=[1], requests=10)

        assert "LEVEL: '...'" in report.spec


def test_packages_of_its_own_are_there_for_the_script_alone(tmp_path, models, name, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.chdir(tmp_path)
    wheel = write_wheel(tmp_path, "tokens_of_a_kind", code="def split(text): return text.split()\n")
    code = "import tokens_of_a_kind as t\ndef init(): pass\ndef run(data): return t.split(data)\n"
    with tn.deploy(models, name=name) as deployment:
        with pytest.raises(EntryScriptError, match=r"(?s)named .tokens_of_a_kind.\n.*its package with `--pip`"):
            deployment.write_score(code, port=0)
        url = deployment.url

        deployment.write_score(code, port=0, pip=[f"./{wheel.name}"])

        assert deployment.run("a quick fox") == ["a", "quick", "fox"]
        assert deployment.url == url
        monkeypatch.chdir("/")
        with pytest.raises(TritonNbError, match="no-such-package-of-a-kind"):
            deployment.write_score(code, port=0, pip=["no_such_package_of_a_kind==1"])
        assert deployment.run("a quick fox") == ["a", "quick", "fox"]


def test_when_the_server_died_and_came_back_the_script_serves_on(tmp_path, models, name, server_of, eventually):
    score = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    with tn.deploy(models, name=name, restart="on-failure", score=score) as deployment:
        pid = told(deployment)["pid"]
        server_of(name).kill()
        with pytest.raises((DeploymentError, ScoringError), match=r"is being started again|score.py, line"):
            deployment.run(X)
        assert eventually(lambda: deployment.state == "ready")

        np.testing.assert_array_equal(deployment.run(X), X * X)
        assert told(deployment)["pid"] == pid


# Kept -----------------------------------------------------------------------------------------------------------------


def test_kept_it_is_found_changed_and_ended_by_other_processes(tmp_path, models, name, notebook, left_behind):
    score = f"dict(entry_script='score.py', source_directory={str(write(tmp_path))!r}, port=0)"
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(models)!r}, name={name!r}, keep=True, score={score})")
    uri = maker.run("dep.scoring_uri")
    maker.kill()

    finder = notebook()
    finder.run(f"dep = deploying.find({name!r})")
    assert finder.run("dep.scoring_uri") == uri
    assert finder.run("dep.run([[1, 2, 3, 4]])") == "[[1.0, 4.0, 9.0, 16.0]]"
    finder.run("dep.restart()")
    assert finder.run("dep.run([[1, 2, 3, 4]])") == "[[1.0, 4.0, 9.0, 16.0]]"
    other = notebook()
    other.run(f"dep = deploying.find({name!r})")
    finder.run(f"dep.write_score({ECHO!r}, port=0)")
    assert other.run("dep.run('[5]')") == "'[5]'"
    finder.end()

    last = notebook()
    last.run(f"dep = deploying.find({name!r})")
    assert (last.run("dep.scoring_uri"), last.run("dep.run('[5]')")) == (uri, "'[5]'")
    last.run("dep.delete()")
    assert not left_behind(name)


def test_a_script_that_one_notebook_writes_or_moves_is_known_to_another(tmp_path, models, name, notebook, free_port):
    maker, other = notebook(), notebook()
    maker.run(f"dep = tn.deploy({str(models)!r}, name={name!r}, keep=True)")
    other.run(f"dep = deploying.find({name!r})")

    maker.run(f"dep.write_score({ECHO!r}, port=0)")
    assert other.run("dep.run('[5]'), dep.health().script") == "('[5]', 'ready, 1 worker')"
    maker.run(f"dep.write_score({ECHO!r}, port={free_port})")
    assert other.run("dep.scoring_uri, dep.run('[5]')") == f"('http://127.0.0.1:{free_port}/score', '[5]')"
    other.run("dep.delete()")


def test_a_reload_waits_for_the_script_that_another_notebook_is_writing(tmp_path, models, name, notebook, eventually):
    slow = f"""\
import time
from pathlib import Path
def init():
    (Path({str(tmp_path)!r}) / "reached").touch()
    while not (Path({str(tmp_path)!r}) / "open").exists(): time.sleep(0.01)
def run(data): return "new"
"""
    with tn.deploy(models, name=name, keep=True) as deployment:
        deployment.write_score(ECHO, port=0)
        other = notebook()
        other.run(f"dep = deploying.find({name!r})")
        other.run("import threading")
        other.run(f"work = threading.Thread(target=dep.write_score, args=({slow!r},), kwargs=dict(port=0))")
        other.run("work.start()")
        assert eventually((tmp_path / "reached").exists)
        opened = threading.Timer(0.5, (tmp_path / "open").touch)
        opened.start()

        deployment.reload()

        other.run("work.join()")
        opened.join()
        assert deployment.run("[1]") == "new"


@pytest.fixture
def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_maker_that_is_killed_during_init_leaves_the_start_to_whoever_finds_it(
    tmp_path, models, name, notebook, eventually
):
    gate = tmp_path / "gate"
    slow = f"import os, time\ndef init():\n    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    write(tmp_path, slow + "def run(data): return data\n")
    score = f"dict(entry_script='score.py', source_directory={str(tmp_path)!r}, port=0)"
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(models)!r}, name={name!r}, keep=True, wait=False, score={score})")
    assert eventually(lambda: list(home().glob(f"score/{name}-*/process.json")))
    maker.kill()
    gate.touch()

    finder = notebook()
    finder.run(f"dep = deploying.find({name!r})")
    assert finder.run("dep.wait_for_deployment(), dep.state, dep.run('[5]')") == "(None, 'ready', '[5]')"


def test_stopped_from_the_command_line_nothing_is_left(tmp_path, models, name, left_behind):
    from tritonnb.cli import main

    score = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    deployment = tn.deploy(models, name=name, score=score)

    assert main(["stop", name]) == 0

    assert not left_behind(name)
    assert deployment.state == "failed"


def test_a_tier_whose_deployment_is_lost_is_swept(tmp_path, models, name, eventually, left_behind):
    score = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    deployment = tn.deploy(models, name=name, keep=True, score=score)
    tier = Path(records.record_of(name).tier)
    deployment._run.engine.stop()
    records.sweep()
    assert tier.exists()  # it may be a deployment's that is just being made
    os.utime(tier, (0, 0))

    assert name in records.sweep()

    assert not left_behind(name)


def test_to_be_kept_or_no_longer_it_stays_at_its_address(tmp_path, models, name, notebook):
    score = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    with tn.deploy(models, name=name, score=score) as deployment:
        uri = deployment.scoring_uri
        deployment.update(keep=True)
        assert deployment.scoring_uri == uri
        assert records.record_of(name).tier == str(deployment._run.script.folder)
        np.testing.assert_array_equal(deployment.run(X), X * X)


def test_whose_supervisor_was_killed_it_is_started_again_by_another_notebook(
    tmp_path, models, name, notebook, left_behind
):
    score = f"dict(entry_script='score.py', source_directory={str(write(tmp_path))!r}, port=0)"
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(models)!r}, name={name!r}, keep=True, score={score})")
    uri = maker.run("dep.scoring_uri")
    supervisor = json.loads((Path(records.record_of(name).tier) / "process.json").read_text())["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    maker.kill()

    finder = notebook()
    finder.run(f"dep = deploying.find({name!r})")
    finder.run("dep.wait_for_deployment()")
    assert finder.run("'was killed by signal 9' in dep.health().script") == "True"
    finder.run("dep.reload()")
    assert finder.run("dep.scoring_uri") == uri
    assert finder.run("dep.state") == "'ready'"
    finder.run("dep.delete()")
    assert not left_behind(name)


def test_a_cell_that_a_failed_change_has_stopped_is_back_and_in_the_record(tmp_path, models, name):
    bad = write(tmp_path, "def init(): raise KeyError('weights')\ndef run(data): pass\n")
    with tn.deploy(models, name=name) as deployment:
        deployment.write_score(ECHO, port=0)
        psutil.Process(int(deployment._run.script.tier._process.pid)).kill()
        with pytest.raises(EntryScriptError, match="weights"):
            deployment.update(score={"entry_script": "score.py", "source_directory": bad, "port": 0})

        deployment._run.script.tier.wait()
        assert deployment.run("of the cell") == "of the cell"
        assert records.record_of(name).tier == str(deployment._run.script.folder)
        deployment.reload()
        assert deployment.run("of the cell") == "of the cell"


@pytest.mark.parametrize("changes", [{}, {"restart": "on-failure"}], ids=["the script alone", "and the server"])
@pytest.mark.parametrize("cell", [False, True], ids=["of the spec", "of a cell"])
def test_an_update_takes_the_script_away(tmp_path, models, name, cell, changes):
    score = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    with tn.deploy(models, name=name, score=score) as deployment:
        tier, uri = Path(records.record_of(name).tier), deployment.scoring_uri
        if cell:
            deployment.write_score(ECHO, port=0)

        deployment.update(score=None, **changes)

        assert not tier.exists()
        assert (deployment.spec.score, deployment.swagger_uri, records.record_of(name).tier) == (None, "", "")
        with pytest.raises(DeploymentError, match="has no entry script"):
            deployment.run(X)
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(uri)
        deployment.update(score=score)
        np.testing.assert_array_equal(deployment.run(X), X * X)


def test_how_a_server_is_started_again_is_how_its_script_is(tmp_path, models, name, eventually):
    score = {"entry_script": "score.py", "source_directory": write(tmp_path), "port": 0}
    with tn.deploy(models, name=name, score=score) as deployment:
        deployment.update(restart="on-failure")
        psutil.Process(told(deployment)["pid"]).parent().kill()

        assert eventually(lambda: deployment.state != "ready")
        assert eventually(lambda: deployment.state == "ready")
        np.testing.assert_array_equal(deployment.run(X), X * X)
