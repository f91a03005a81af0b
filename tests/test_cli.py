"""The command line, as real processes beside a real deployment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tritonnb.cli import command_line

README = Path(__file__).parent.parent / "README.md"

DEPLOY = """
import sys, time
import tritonnb as tn
tn.deploy(sys.argv[1], name=sys.argv[2], keep=sys.argv[3] == "keep")
print("ready", flush=True)
if sys.argv[3] != "keep":
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A home of this module alone, with the engine of the session's home: `ps` then shows what these tests deployed."""
    before = os.environ["TRITONNB_HOME"]
    home = tmp_path_factory.mktemp("home")
    engines = Path(before, "engines")
    engines.mkdir(parents=True, exist_ok=True)
    (home / "engines").symlink_to(engines)
    os.environ["TRITONNB_HOME"] = str(home)
    yield home
    tritonnb("stop", "--all")
    os.environ["TRITONNB_HOME"] = before


PROGRAM = Path(sys.executable).with_name("tritonnb")


def tritonnb(*arguments, **variables):
    environment = {**os.environ, "TRITONNB_STABLE_OUTPUT": "", **variables}
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def model(tmp_path_factory, square):
    path = tmp_path_factory.mktemp("models") / "square.onnx"
    path.write_bytes(square)
    return path


@pytest.fixture(scope="module")
def living(model):
    """A process that has deployed something and goes on."""
    process = subprocess.Popen([sys.executable, "-c", DEPLOY, model, "living", "-"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def kept(model):
    """A deployment whose process has ended."""
    subprocess.run([sys.executable, "-c", DEPLOY, model, "kept", "keep"], check=True, stdout=subprocess.DEVNULL)


def all_verbs():
    [top] = [action for action in command_line()._actions if hasattr(action, "choices") and action.choices]
    for action in top._choices_actions:
        inner = [a for a in top.choices[action.dest]._actions if isinstance(a.choices, dict)]
        yield from (
            [(f"{action.dest} {below.dest}", below.help) for a in inner for below in a._choices_actions]
            or [(action.dest, action.help)]
        )


def test_the_readme_lists_every_verb_as_help_does():
    table = re.findall(r"^\| `tritonnb ([a-z ]+?)(?: [^`a-z][^`]*)?` \| (.*) \|$", README.read_text(), re.MULTILINE)
    assert table == list(all_verbs())


@pytest.mark.parametrize("verb", ["", *(verb for verb, _ in all_verbs())])
def test_every_verb_has_help(verb):
    done = tritonnb(*verb.split(), "-h")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: tritonnb {verb}".strip())


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("", 2, "required: VERB"),
        ("stpo", 2, "invalid choice: 'stpo'"),
        ("ps --jsn", 2, "unknown option --jsn; did you mean '--json'?"),
        ("ps --js", 2, "unknown option --js"),
        ("ps demo", 2, "unexpected 'demo'"),
        ("stop", 2, "NAME --all is required"),
        ("stop nobody", 1, "No deployment 'nobody' runs"),
        ("logs nobody", 1, "`tritonnb ps` lists"),
    ],
)
def test_a_wrong_line_is_told_on_the_error_stream(line, status, said):
    done = tritonnb(*line.split())
    assert done.returncode == status
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.requires("engine")
def test_ps_tells_whose_each_deployment_is_and_what_it_takes(living, kept):
    done = tritonnb("ps")
    assert done.returncode == 0
    title, header, *rows = done.stdout.splitlines()
    assert title == "2 deployments"
    assert header.split()[:5] == ["Name", "State", "Models", "Engine", "Owner"]
    rows = {row.split()[0]: row for row in rows}
    assert re.search(rf"ready +1/1 +embedded +python\S* {living.pid} +\d+ s +\d+ \d+ \d+ +\d+ MB", rows["living"])
    assert re.search(r"ready +1/1 +embedded +kept, ended ", rows["kept"])


@pytest.mark.requires("engine")
def test_ps_tells_programs_the_same_as_json_without_the_keys(living, kept):
    told = {entry["name"]: entry for entry in json.loads(tritonnb("ps", "--json").stdout)}
    assert told["living"]["owner_pid"] == living.pid
    assert told["kept"]["owner_pid"] is None
    assert told["kept"]["keep"]
    assert told["kept"]["state"] == "ready"
    assert told["kept"]["url"].startswith("http://127.0.0.1:")
    assert told["kept"]["memory_bytes"] > 10 * 2**20
    assert told["kept"]["age_s"] > 0
    assert not [field for entry in told.values() for field in entry if "key" in field]


@pytest.mark.requires("engine")
def test_stable_output_leaves_out_what_changes_from_run_to_run(living, kept):
    shown = tritonnb("ps", TRITONNB_STABLE_OUTPUT="1").stdout
    assert "Age" not in shown
    assert str(living.pid) not in shown


@pytest.mark.requires("engine")
def test_logs_prints_the_last_lines(kept):
    whole = tritonnb("logs", "kept", "--lines", "5000").stdout
    assert "successfully loaded 'square'" in whole
    assert tritonnb("logs", "kept", "--lines", "2").stdout == "".join(whole.splitlines(keepends=True)[-2:])


@pytest.mark.requires("engine")
def test_following_logs_ends_with_the_deployment_and_ctrl_c_ends_it_before(model, home):
    subprocess.run([sys.executable, "-c", DEPLOY, model, "followed", "keep"], check=True, stdout=subprocess.DEVNULL)
    first, second = (
        subprocess.Popen([PROGRAM, "logs", "followed", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    for process in (first, second):
        while "successfully loaded" not in (line := process.stdout.readline()):
            assert line
    first.send_signal(signal.SIGINT)
    assert first.communicate() == ("", "")
    assert first.returncode == 130
    assert tritonnb("stop", "followed").returncode == 0
    assert second.communicate(timeout=20)[1] == ""
    assert second.returncode == 0


@pytest.mark.requires("engine")
def test_stop_ends_kept_deployments_and_those_of_living_processes_and_says_whose(living, kept, home):
    told = json.loads(tritonnb("ps", "--json").stdout)
    assert len(told) == 2
    done = tritonnb("stop", "kept")
    assert done.stdout == "Deployment 'kept', which was kept, is stopped.\n"
    done = tritonnb("stop", "--all")
    assert re.fullmatch(rf"Deployment 'living', which belonged to python\S* {living.pid}, is stopped.\n", done.stdout)
    assert living.poll() is None
    assert list((home / "deployments").iterdir()) == []
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(home / "deployments") in " ".join(command)]
    assert tritonnb("stop", "--all").stdout == "No deployment runs.\n"
    assert tritonnb("ps").stdout == "No deployment runs.\n"


@pytest.mark.requires("engine")
def test_clean_removes_what_the_dead_have_left_and_old_engines_and_says_how_much(tmp_path):
    left = tmp_path / "deployments" / "dead-12345678"
    old = tmp_path / "engines" / "py3.11-000000000000"
    for folder in (left, old):
        folder.mkdir(parents=True)
        (folder / "content").write_bytes(b"x" * 3 * 2**20)
    os.utime(left, (0, 0))
    young = tmp_path / "deployments" / "being-made-12345678"
    young.mkdir()
    assert tritonnb("clean", TRITONNB_HOME=str(tmp_path)).stdout == (
        "Removed what deployment 'dead' had left.\n"
        "Removed the engine py3.11-000000000000, which this release does not use.\n"
        "6 MB are free now.\n"
    )
    assert not left.exists()
    assert not old.exists()
    assert young.exists()
    assert tritonnb("clean", TRITONNB_HOME=str(tmp_path)).stdout == "There was nothing to remove.\n"


def test_doctor_prints_its_report_and_its_status_tells_whether_the_engine_can_serve(tmp_path):
    done = tritonnb("doctor", TRITONNB_HOME=str(tmp_path))
    assert done.stdout.startswith("tritonnb doctor: the embedded engine cannot serve yet")
    assert done.returncode == 1


def test_the_output_may_be_cut_off(tmp_path):
    done = subprocess.run(f"{PROGRAM} doctor | head -1", shell=True, capture_output=True, text=True, check=True)  # noqa: S602  (a pipe)
    assert done.stdout.startswith("tritonnb doctor")
    assert "BrokenPipe" not in done.stderr
