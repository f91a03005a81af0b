"""The keys of an entry script: asked for, replaced without a restart, and nowhere to be read."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

import tritonnb as tn
from tritonnb import records
from tritonnb.errors import ScoringError, SpecError

pytestmark = pytest.mark.requires("engine")

SCRIPT = """\
import json, os

def init():
    pass

def run(data):
    if data == "fail":
        raise ValueError("on purpose")
    return {"authorization": os.environ.get("TRITON_AUTHORIZATION"), "pid": os.getpid()}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, square):
    """A deployment with an entry script, both of which ask for keys."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "model.onnx").write_bytes(square)
    (folder / "score.py").write_text(SCRIPT)
    score = {"entry_script": "score.py", "source_directory": folder, "port": 0}
    with tn.deploy({"square": folder / "model.onnx"}, name="guarded", auth_enabled=True, score=score) as deployment:
        yield deployment


def status(deployment, key, path="/score"):
    request = urllib.request.Request(deployment.scoring_uri.removesuffix("/score") + path)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_there_are_two_keys_and_every_route_but_the_health_needs_one(guarded):
    primary, secondary = guarded.get_keys()

    assert primary != secondary
    assert [status(guarded, key) for key in (primary, secondary, "", "wrong")] == [200, 200, 401, 401]
    assert [status(guarded, key, "/swagger.json") for key in (primary, "")] == [200, 401]
    assert status(guarded, "", "/") == 200


@pytest.mark.parametrize(("name", "number"), [("Primary", 0), ("secondary", 1)])
def test_a_key_is_replaced_from_the_next_request_on_and_nothing_is_restarted(guarded, name, number):
    before, url, pid = guarded.get_keys(), guarded.url, guarded.run("x")["pid"]

    guarded.regen_key(name)

    after = guarded.get_keys()
    assert after[number] != before[number]
    assert after[1 - number] == before[1 - number]
    assert [status(guarded, key) for key in (before[number], *after)] == [401, 200, 200]
    assert (guarded.url, guarded.run("x")["pid"]) == (url, pid)


def test_triton_s_own_key_is_another_and_the_script_learns_of_a_new_one(guarded):
    keys, authorization = guarded.get_keys(), guarded.headers["Authorization"]
    assert guarded.run("x")["authorization"] == authorization
    assert authorization.removeprefix("Bearer ") not in keys

    guarded.regen_key("Triton")

    assert guarded.headers["Authorization"] != authorization
    assert guarded.run("x")["authorization"] == guarded.headers["Authorization"]
    assert guarded.get_keys() == keys


def test_a_name_that_no_key_has_is_told(guarded):
    with pytest.raises(SpecError, match=r"no key 'Third'.\n.*'Primary', 'Secondary', and 'Triton'"):
        guarded.regen_key("Third")


def test_no_key_is_in_a_repr_a_log_an_argument_or_an_error(guarded):
    guarded.regen_key("Secondary")
    with pytest.raises(tn.TritonNbError) as failed:
        guarded.run("fail")
    record = records.record_of("guarded")
    tier = Path(record.tier)
    supervised = [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline"])
        if str(tier) in " ".join(process.info["cmdline"] or [])
        or "score_worker" in " ".join(process.info["cmdline"] or [])
    ]
    script = guarded._run.script
    shown = [
        *map(repr, (guarded, guarded.health(), guarded.spec, script.tier, script.tier.plan, record, failed.value)),
        str(failed.value),
        failed.value.traceback,
        str(guarded.serialize()),
        str(guarded.get_logs()),
        (tier / "score.log").read_text(),
        (tier / "state.json").read_text(),
        *supervised,
    ]
    assert len(supervised) >= 2

    for key in (*guarded.get_keys(), guarded.headers["Authorization"].removeprefix("Bearer ")):
        assert not [text for text in shown if key in text]


def test_a_script_that_forgets_triton_s_key_is_told_which_variable_has_it(guarded):
    asks = "import os, tritonclient.http as http\ndef init(): pass\ndef run(data):\n"
    asks += "    return http.InferenceServerClient(os.environ['TRITON_URL']).get_model_metadata('square')\n"
    guarded.write_score(asks, port=0)

    with pytest.raises(ScoringError, match=r"(?s)the cell, in run.*Hint: .*TRITON_AUTHORIZATION"):
        guarded.run("x")

    guarded.update(entry_script="score.py")  # takes the cell's place
    assert guarded.run("x")["authorization"]


def test_the_files_with_keys_are_for_this_user_alone(guarded):
    tier = Path(records.record_of("guarded").tier)

    assert tier.stat().st_mode & 0o077 == 0
    for name in ("plan.json", "keys.json", "state.json"):
        assert (tier / name).stat().st_mode & 0o077 == 0


def test_without_auth_nothing_is_asked_for_and_the_key_is_triton_s(tmp_path, square):
    (tmp_path / "model.onnx").write_bytes(square)
    (tmp_path / "score.py").write_text(SCRIPT)
    score = {"entry_script": "score.py", "source_directory": tmp_path, "port": 0}
    with tn.deploy(tmp_path / "model.onnx", name="open", score=score) as deployment:
        assert status(deployment, "") == 200
        assert deployment.run("x")["authorization"] is None
        (key,) = deployment.get_keys()
        assert deployment.headers["Authorization"] == f"Bearer {key}"
        with pytest.raises(SpecError, match="there is one, 'Primary'"):
            deployment.regen_key("Secondary")

        deployment.write_score("\n" + SCRIPT, auth=True)  # of /score alone

        assert [status(deployment, each) for each in (*deployment.get_keys(), "")] == [200, 200, 401]
        assert re.search(r"Key +asked for", repr(deployment.write_score("\n" + SCRIPT, auth=True)))
        assert deployment.run("x")["authorization"] is None
