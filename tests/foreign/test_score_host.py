"""The contract of an entry script, as one worker of the tier serves it."""

from __future__ import annotations

import json

import pytest
from score_process import ScoreProcess

from tritonnb.environments import engine_environment

pytestmark = pytest.mark.requires("engine")

SCRIPT = """
    import json

    import helper

    def init():
        print("init was called")

    def run(data):
        print("run was called")
        if data == "raise":
            raise ValueError("no good")
        return helper.twice(json.loads(data))
"""


@pytest.fixture(scope="module")
def python():
    return engine_environment().python


@pytest.fixture(scope="module")
def tier(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tier")
    (folder / "src").mkdir()
    (folder / "src" / "helper.py").write_text("def twice(value):\n    return value * 2\n")
    tier = ScoreProcess(folder, python, SCRIPT)
    yield tier
    assert tier.end() == 0


def test_run_gets_the_body_as_a_json_string_and_its_result_is_sent_as_json(tier):
    assert tier.run([1, "ä"]) == [1, "ä", 1, "ä"]


def test_a_script_that_raises_is_a_500_and_its_traceback_is_in_the_log_under_the_requests_id(tier):
    status, headers, body = tier.ask(body="raise")
    assert status == 500
    assert json.loads(body) == {
        "message": "An unexpected error occurred in scoring script. Check the logs for more info."
    }
    assert headers["x-ms-run-function-failed"] == "True"
    lines = [line for line in tier.log().splitlines() if f"[worker 1] [{headers['x-request-id']}]" in line]
    assert any("run was called" in line for line in lines)
    assert any('score.py", line 12, in run' in line for line in lines)
    assert any("ValueError: no good" in line for line in lines)
    assert not any("score_host" in line for line in lines)


def test_health_is_told_at_the_root(tier):
    status, _, body = tier.ask("GET", "/")
    assert (status, body) == (200, b"Healthy")
