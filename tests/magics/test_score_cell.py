"""``%%triton_score`` in a real shell: lines are counted as the notebook counts them."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError, EntryScriptError, PortInUseError, ScoringError, SpecError, UsageError

pytestmark = pytest.mark.requires("engine")

# Line 7 of the cell, the magic's own included, is the first of init(); line 11 that of run().
CODE = """\
import json, os
import numpy
import tritonclient.http as http

def init():
    {init}
    global client
    client = http.InferenceServerClient(os.environ["TRITON_URL"])
def run(data):
    {run}
    x = numpy.array(json.loads(data), numpy.float32)
    tensor = http.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    return {{"y": client.infer("square", [tensor]).as_numpy("y").tolist(), "pid": os.getpid()}}
"""


def cell(line="serving --port 0", init="pass", run="pass"):
    return f"%%triton_score {line}\n{CODE.format(init=init, run=run)}"


@pytest.fixture
def scored(serving):
    """The deployment with a script that works."""
    serving.run(cell())
    return tn.deployment("serving")


def test_a_cell_is_served_and_shown_without_what_changes(serving):
    shown = serving.run(cell("serving --port 0 --workers 2 -o shown"))

    deployment = tn.deployment("serving")
    assert serving.shell.user_ns["shown"] is shown
    assert (shown.scoring_uri, shown.workers) == (deployment.scoring_uri, 2)
    assert repr(shown) == (
        "Entry script of 'serving'\n  Workers     2\n  Time limit  60 s\n  Key         not asked for"
    )
    assert "<table" in shown._repr_html_()
    np.testing.assert_array_equal(deployment.run([[1, 2, 3, 4]])["y"], [[1, 4, 9, 16]])


def test_run_again_it_is_swapped_and_stays_where_it_was(serving, scored):
    uri, pid = scored.scoring_uri, scored.run([[1, 2, 3, 4]])["pid"]

    serving.run(cell().replace('"pid": os.getpid()', '"pid": -1'))

    assert scored.scoring_uri == uri
    assert scored.run([[1, 2, 3, 4]])["pid"] == -1 != pid


def test_it_is_the_latest_deployment_s_where_none_is_named(serving):
    assert serving.run(cell("--port 0")).deployment == "serving"


def test_modules_beside_the_notebook_can_be_imported(serving, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_the_notebook.py").write_text("WORD = 'here'\n")

    serving.run(
        "%%triton_score --port 0\nimport beside_the_notebook\n"
        "def init(): pass\ndef run(data): return beside_the_notebook.WORD\n"
    )

    assert tn.deployment("serving").run("") == "here"


@pytest.mark.parametrize(
    ("written", "error", "text"),
    [
        (cell(run="x y"), EntryScriptError, "line 11 of the cell: invalid syntax.*nothing was changed"),
        (cell().replace("import numpy", "1 / 0"), EntryScriptError, "ZeroDivisionError.*line 3 of the cell: 1 / 0"),
        (
            cell().replace("import numpy", "import nltkk"),
            EntryScriptError,
            "'nltkk'\n  line 3 of the .*add its package with `--pip`",
        ),
        (cell(init="raise KeyError('w')"), EntryScriptError, "'w'\n  line 7 of the cell, in init: raise KeyError"),
        (cell("srving"), DeploymentError, "did you mean 'serving'"),
        (cell("serving --wrkers 2"), UsageError, "did you mean '--workers'"),
        (cell("serving --workers 0"), SpecError, "workers"),
        (cell("serving --port 99999"), SpecError, "port"),
        (cell("serving --source-directory /no/such"), SpecError, "no folder"),
    ],
)
def test_a_mistake_is_told_with_the_line_that_the_notebook_shows_and_the_script_of_before_goes_on(
    serving, scored, capsys, written, error, text
):
    with pytest.raises(error, match=f"(?s){text}"):
        serving.run(written)

    assert "Traceback" not in capsys.readouterr().out
    np.testing.assert_array_equal(scored.run([[1, 2, 3, 4]])["y"], [[1, 4, 9, 16]])
    assert scored.state in {"ready", "degraded"}  # of its models one is broken
    assert scored.health().script == "ready, 1 worker"


def test_an_error_in_run_names_the_line_that_the_notebook_shows(serving):
    serving.run(cell(run="raise KeyError('lost')"))

    with pytest.raises(
        ScoringError, match=r"KeyError: 'lost'\n  line 11 of the cell, in run: raise KeyError"
    ) as caught:
        tn.deployment("serving").run([1])

    assert 'File "the cell", line 11, in run' in caught.value.traceback


def test_a_port_that_is_taken_is_told_with_the_option(serving, scored):
    with tn.deploy(name="beside", engine="embedded") as beside:
        port = scored.serialize()["port"]
        with pytest.raises(PortInUseError, match=rf"Port {port} .*\n.*`%%triton_score --port`"):
            serving.run(cell(f"beside --port {port}"))
        assert beside.swagger_uri == ""


def test_the_script_outlives_a_change_of_the_server_and_a_time_limit_counts(serving):
    serving.run(
        cell("serving --port 0 --timeout 0.5 --threads 2", run="import time; time.sleep(30 * (data == 'long'))")
    )
    deployment = tn.deployment("serving")

    serving.run("%triton_update --restart on-failure --on serving")

    np.testing.assert_array_equal(deployment.run([[1, 2, 3, 4]])["y"], [[1, 4, 9, 16]])
    with pytest.raises(ScoringError, match="timeout after 500 ms") as caught:
        deployment.run("long")
    assert caught.value.status == 500


def test_its_log_is_shown_and_its_keys_are_not(serving, capsys):
    serving.run(cell("serving --port 0 --auth", run="print('from the cell')"))
    deployment = tn.deployment("serving")
    deployment.run([[1, 2, 3, 4]])

    logs = serving.run("%triton_logs")
    serving.run("%triton_status")

    assert "==> entry script <==" in repr(logs)
    assert "[worker 1] from the cell" in repr(logs)
    assert not [key for key in deployment.get_keys() if key in repr(logs) + capsys.readouterr().out]
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(deployment.scoring_uri)
    refused.value.close()


def test_a_script_may_come_with_the_deployment(serving, tmp_path, monkeypatch, square):
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(square)
    Path("score.py").write_text("import os\ndef init(): pass\ndef run(data): return os.environ['WORKER_COUNT']\n")

    with serving.run(
        "%triton_deploy model.onnx --name brought --engine embedded --entry-script score.py --workers 2 --score-port 0"
    ) as deployment:
        assert deployment.run("") == "2"


def test_the_tab_key_offers_deployments_and_options(serving):
    assert "serving" in serving.completions("%%triton_score ser")
    assert "--workers" in serving.completions("%%triton_score serving --wor")
