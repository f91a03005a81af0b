import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

VERB = str(Path(sys.executable).with_name("tritonnb"))
DEMO = [sys.executable, "-m", "tritonnb.demo"]


def sections(output):
    """Return what the demo shows below each of its numbered steps."""
    return dict(re.findall(r"^\d\. (.+)\n((?:   .*\n)+)", output, re.MULTILINE))


@pytest.mark.requires("engine")
@pytest.mark.parametrize("command", [DEMO, [VERB, "demo"]], ids=["module", "verb"])
def test_the_demo_serves_a_real_model_that_sees_what_is_in_the_pictures(tmp_path, command):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = sections(done.stdout)
    assert len(shown) == 8
    best = {step: text.split("\n")[0] for step, text in shown.items()}
    assert re.search(r"\d\d\.\d%  .*cat$", best["Ask what is in the picture 'chelsea'"])
    assert best["Ask what is in the picture 'coffee'"].endswith("espresso")
    assert best["Ask what is in the picture 'camera'"].endswith("tripod")
    assert re.search(r"tritonserver \d+\.\d+\.\d+ of the embedded engine, at http://127\.0\.0\.1:\d+", done.stdout)
    assert "efficientnet_lite0/1/model.onnx" in best["Lay out a model repository: one file, no configuration"]
    assert os.environ["TRITONNB_HOME"] in done.stdout
    assert "make lab" in done.stdout
    assert list(tmp_path.glob("tritonnb*")) == []


@pytest.mark.requires("engine")
@pytest.mark.parametrize("step", ["2. Deploy", "3. Ask"])
def test_ctrl_c_stops_the_server_and_leaves_nothing(tmp_path, step):
    before = set(Path(os.environ["TRITONNB_HOME"], "deployments").glob("*"))
    demo = subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with demo:
        while step not in demo.stdout.readline():
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        _, complaint = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert complaint.strip().startswith("Interrupted: ")
    assert "Traceback" not in complaint
    assert list(tmp_path.glob("tritonnb*")) == []
    assert set(Path(os.environ["TRITONNB_HOME"], "deployments").glob("*")) == before


def test_an_error_is_one_message_and_exit_status_1(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "TRITONNB_HOME": str(tmp_path / "file" / "home")}
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("The demo failed. tritonnb's folder")
    assert "TRITONNB_HOME" in done.stderr
    assert "Traceback" not in done.stderr
