"""The doctor sees what is there and what is not: each absence is made real, and told with the way out."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import ClassVar

import pytest

import tritonnb as tn
from tritonnb.doctor import Finding, Report, checked, containers, examine, machine, report
from tritonnb.doctor.containers import ask_docker, container_toolkit, docker_daemon, triton_images
from tritonnb.doctor.engine import built_engine, engine_python, search_interpreter
from tritonnb.doctor.machine import gpu, home_folder, ports, shared_memory
from tritonnb.doctor.packages import python_packages, unmet
from tritonnb.environments import EngineEnvironment, engine_environment

SUBJECTS = [
    "Python for the engine",
    "engine environment",
    "shared memory",
    "tritonnb's home",
    "Python packages",
    "Triton's usual ports",
    "Docker daemon",
    "Triton images",
    "GPU and driver",
    "NVIDIA container toolkit",
]


@pytest.fixture
def details(monkeypatch):
    """Paths, sizes and versions are shown."""
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")


@pytest.fixture
def only_these_programs(tmp_path, monkeypatch):
    """A PATH of a single folder; returns a function that puts a program there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def put(name: str, script: str = "true") -> None:
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return put


@contextmanager
def without_privileges():
    """Be a user who may not write everywhere, where this process is root."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody").pw_uid
    os.setresuid(nobody, nobody, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def open_folder():
    """A folder that every user may look into, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# The report


@pytest.mark.requires("engine")
def test_every_subject_of_this_machine_is_looked_at_within_seconds():
    engine_environment()
    began = time.monotonic()
    found = examine()
    assert time.monotonic() - began < 20
    assert [finding.subject for finding in found.findings] == SUBJECTS
    states = {finding.subject: finding.state for finding in found.findings}
    assert set(states.values()) <= {"ok", "missing", "broken", "unknown"}
    assert all(states[subject] == "ok" for subject in report.NEEDED)
    assert found.healthy


def test_whatever_is_not_well_comes_with_a_way_to_mend_it():
    for finding in examine().findings:
        assert bool(finding.mend) == (finding.state != "ok"), finding


@pytest.mark.parametrize("subject", report.NEEDED)
def test_without_anything_that_it_needs_the_engine_cannot_serve(subject):
    found = Report((Finding(subject, "missing", "gone", "get it"), Finding("Docker daemon", "ok", "answers")))
    assert not found.healthy
    assert repr(found).startswith(f"tritonnb doctor: the embedded engine cannot serve yet ({subject})")


def test_the_engine_serves_without_docker_and_gpu():
    assert Report((Finding("Docker daemon", "missing", "gone", "get it"),)).healthy


def test_a_terminal_shows_columns_and_keeps_paths_whole(details):
    path = "/a/very/long-path" * 6
    found = Report(
        (
            Finding("engine environment", "missing", "not built", "run `tritonnb engine install`.", path),
            Finding("shared memory", "ok", "/dev/shm is mounted"),
        )
    )
    assert repr(found).splitlines() == [
        "tritonnb doctor: the embedded engine cannot serve yet (engine environment)",
        "  engine environment  missing  not built:",
        f"                               {path}",
        "                               To mend: run `tritonnb engine install`.",
        "  shared memory       ok       /dev/shm is mounted",
    ]


def test_a_notebook_shows_an_escaped_table_with_headers():
    html = Report((Finding("Triton images", "missing", "<none>", "docker pull"),))._repr_html_()
    assert "<caption>tritonnb doctor: the embedded engine can serve here</caption>" in html
    assert '<th scope="col">How to mend it</th>' in html
    assert '<th scope="row">Triton images</th><td>missing</td><td>&lt;none&gt;</td><td>docker pull</td>' in html


def test_stable_output_leaves_out_what_changes_from_machine_to_machine(monkeypatch):
    found = Report((Finding("shared memory", "ok", "with room", detail="64 MB"),))
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "1")
    assert "64 MB" not in repr(found) + found._repr_html_()
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "0")
    assert "with room: 64 MB" in repr(found)
    assert "with room: 64 MB" in found._repr_html_()


def test_a_check_that_fails_itself_is_a_finding_too():
    def check() -> Finding:
        raise ZeroDivisionError("by zero")

    assert checked("shared memory", check).state == "unknown"
    assert checked("shared memory", check).detail == "ZeroDivisionError: by zero"


# The engine


def test_a_python_that_is_not_there_is_told_with_what_was_tried(monkeypatch):
    monkeypatch.setenv("TRITONNB_PYTHON", "/nowhere/python3")
    found = examine()
    python, engine = found.findings[:2]
    assert (python.state, python.detail) == ("missing", "tried /nowhere/python3 (does not run)")
    assert "/nowhere" not in python.shown
    assert "TRITONNB_PYTHON" in python.mend
    assert engine.state == "unknown"
    assert not found.healthy


def test_a_python_that_answers_nonsense_does_not_stop_the_doctor(monkeypatch):
    monkeypatch.setenv("TRITONNB_PYTHON", shutil.which("echo"))
    assert examine().findings[0].state == "unknown"


@pytest.mark.requires("engine")
def test_an_engine_that_is_not_built_is_not_built_by_looking(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "home"))
    assert built_engine(search_interpreter()).state == "missing"
    assert not (tmp_path / "home").exists()
    (tmp_path / "home" / "engines").mkdir(parents=True)
    found = built_engine(search_interpreter())
    assert (found.state, found.found) == ("missing", "not built")
    assert "tritonnb engine install" in found.mend
    assert not [path for path in (tmp_path / "home" / "engines").iterdir() if path.is_dir()]


@pytest.mark.requires("engine")
def test_a_disk_without_room_for_the_engine_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path))
    monkeypatch.setattr("tritonnb.environments.engine.ROOM_MB", 10**9)
    (tmp_path / "engines").mkdir()
    assert "TRITONNB_HOME" in built_engine(search_interpreter()).mend


@pytest.mark.requires("engine")
@pytest.mark.parametrize(
    ("lacking", "complaint"),
    [
        ("pytriton", "tritonserver is not there"),
        ("nvidia_pytriton.libs", "error while loading shared libraries"),
        ("onnxruntime", "No module named 'onnxruntime'"),
    ],
)
def test_a_damaged_engine_says_what_is_wrong_with_it(tmp_path, monkeypatch, lacking, complaint):
    whole = engine_environment()
    copy = EngineEnvironment(tmp_path / "engines" / whole.folder.name, whole.interpreter)
    copy.site_packages.mkdir(parents=True)
    for part in ("bin", "pyvenv.cfg"):
        (copy.folder / part).symlink_to(whole.folder / part)
    for package in whole.site_packages.iterdir():
        if package.name == lacking:
            continue
        if package.name == "pytriton":  # a copy: the server seeks its libraries beside itself
            shutil.copytree(package, copy.site_packages / "pytriton")
        else:
            (copy.site_packages / package.name).symlink_to(package)
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path))
    found = built_engine(search_interpreter())
    assert (found.state, found.found) == ("broken", "built, but damaged")
    assert complaint in found.detail
    assert "tritonnb engine install" in found.mend


@pytest.mark.requires("engine")
def test_the_python_of_the_engine_is_shown_with_its_library():
    found = engine_python(search_interpreter())
    assert found.state == "ok"
    assert "libpython3." in found.detail


# The machine


LOOK = """
import json
from tritonnb.doctor.machine import shared_memory
found = shared_memory()
print(json.dumps([found.state, found.found, found.mend, found.detail]))
"""


def in_own_mounts(mount: str) -> list[str]:
    """Return what the doctor says of /dev/shm after a mount that no other process sees."""
    command = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, LOOK]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this process may not mount: {error}")
    return json.loads(said)


def test_a_shared_memory_that_is_too_small_is_told_with_its_size():
    state, found, mend, detail = in_own_mounts("mount -t tmpfs -o size=2m tmpfs /dev/shm")
    assert (state, detail) == ("broken", "2 MB, 2 MB free")
    assert "too little room" in found
    assert "--shm-size" in mend


def test_a_shared_memory_that_cannot_be_written_is_told():
    assert in_own_mounts("mount -t tmpfs -o ro tmpfs /dev/shm")[:2] == ["broken", "/dev/shm cannot be written"]


def test_a_shared_memory_that_is_not_mounted_still_serves():
    assert in_own_mounts("while umount /dev/shm; do :; done; ! mountpoint -q /dev/shm")[:2] == [
        "ok",
        "/dev/shm is a plain folder, with room",
    ]


def test_a_machine_without_shared_memory_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SHARED_MEMORY_FOLDER", tmp_path / "nothing")
    assert shared_memory().state == "missing"


def test_a_home_that_is_not_made_yet_is_well_and_stays_unmade(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "new" / "home"))
    found = home_folder()
    assert found.state == "ok"
    assert "0 running deployments" in found.detail
    assert not (tmp_path / "new").exists()


def test_a_home_below_a_file_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path / "file" / "home"))
    found = home_folder()
    assert (found.state, found.found) == ("broken", "a file stands in its way")
    assert "TRITONNB_HOME" in found.mend


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_home_that_this_user_may_not_write_is_told(open_folder, monkeypatch, mode):
    locked = open_folder / "locked"
    locked.mkdir(mode)
    monkeypatch.setenv("TRITONNB_HOME", str(locked / "home"))
    with without_privileges():
        found = home_folder()
    assert (found.state, found.found) == ("broken", "cannot be written")
    assert "TRITONNB_HOME" in found.mend


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "HOME_MB", 10**9)
    assert home_folder().found == "no room"


@pytest.mark.requires("engine")
def test_running_deployments_are_counted(tmp_path, monkeypatch, square):
    engines = engine_environment().folder.parent
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path))
    (tmp_path / "engines").symlink_to(engines)
    with tn.deploy(square, name="examined", engine="embedded"):
        assert "1 running deployment" in home_folder().detail
    assert "0 running deployments" in home_folder().detail


def test_free_ports_are_told_as_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert ports([port]).state == "ok"


@pytest.mark.parametrize("host", ["127.0.0.1", ""])  # loopback; all interfaces
def test_a_taken_port_is_told_with_the_process_that_holds_it(host):
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]
        found = ports([port])
    assert (found.state, found.found) == ("missing", f"taken: {port}")
    assert f"(process {os.getpid()})" in found.detail


def test_a_port_that_was_closed_a_moment_ago_is_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()  # closed here first: it stays in TIME_WAIT
    assert ports([port]).state == "ok"


def test_a_gpu_is_told_with_its_driver(only_these_programs):
    only_these_programs("nvidia-smi", "echo 'NVIDIA H200, 570.133.20, 143771 MiB'")
    assert (gpu().state, gpu().detail) == ("ok", "NVIDIA H200, 570.133.20, 143771 MiB")


def test_a_driver_that_does_not_work_is_told_in_its_own_words(only_these_programs):
    words = "Failed to initialize NVML: Driver/library version mismatch"
    only_these_programs("nvidia-smi", f"echo '{words}'; exit 18")
    assert (gpu().state, gpu().detail) == ("broken", words)
    assert "reboot" in gpu().mend


@pytest.mark.usefixtures("only_these_programs")
def test_a_loaded_driver_is_seen_without_nvidia_smi(tmp_path, monkeypatch):
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.133.20\nGCC version: 13\n")
    monkeypatch.setattr(machine, "DRIVER", version)
    assert (gpu().state, gpu().detail) == ("ok", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.133.20")


@pytest.mark.usefixtures("only_these_programs")
@pytest.mark.parametrize(
    ("vendor", "kind", "state"),
    [
        ("0x10de", "0x030200", "broken"),  # a data-centre GPU
        ("0x10de", "0x040300", "missing"),  # the sound device of a card
        ("0x8086", "0x030000", "missing"),  # another maker's
    ],
)
def test_a_card_without_its_driver_is_told_from_no_card(tmp_path, monkeypatch, vendor, kind, state):
    device = tmp_path / "devices" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "no driver")
    monkeypatch.setattr(machine, "DEVICES", device.parent)
    assert gpu().state == state


# Packages


def test_the_packages_of_this_environment_are_as_asked_for(details):
    found = python_packages()
    assert found.state == "ok"
    assert f"tritonnb {tn.__version__}" in found.shown


@pytest.mark.parametrize(
    ("requirement", "version", "met"),
    [
        ("ipykernel!=7.0.0,>=6.29; extra == 'lab'", "7.0.0", False),
        ("ipykernel!=7.0.0,>=6.29; extra == 'lab'", "6.28.0", False),
        ("ipykernel!=7.0.0,>=6.29; extra == 'lab'", "7.0.1", True),
        ("ipykernel!=7.0.0,>=6.29; extra == 'lab'", None, True),
        ('pillow>=11; extra == "samples"', "9.0", True),
        ("tritonclient[grpc]>=2.60", "2.59.1", False),
        ("tritonclient[grpc]>=2.60", "2.60.0", True),
        ("jinja2>=3.1.4", "3.1.10", True),
        ("psutil>=6.0", None, False),
    ],
)
def test_a_package_that_is_too_old_known_bad_or_missing_is_found(requirement, version, met):
    name = requirement.split("!")[0].split(">")[0].split("[")[0]
    assert bool(unmet([requirement], {name: version} if version else {})) != met


def test_a_known_bad_package_is_told_with_the_command_that_mends_it(tmp_path, monkeypatch, details):
    bad = tmp_path / "ipykernel-7.0.0.dist-info"
    bad.mkdir()
    (bad / "METADATA").write_text("Metadata-Version: 2.1\nName: ipykernel\nVersion: 7.0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = python_packages()
    assert (found.state, found.shown) == ("broken", "not as tritonnb asks for: ipykernel: ipykernel 7.0.0")
    assert "pip install --upgrade 'ipykernel" in found.mend


# Docker


def test_a_dead_socket_is_told_with_its_address(tmp_path, monkeypatch, details):
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "docker.sock"))
    found = docker_at(f"unix://{tmp_path}/docker.sock", monkeypatch)
    assert (found.state, found.found) == ("missing", "nothing listens at its address")
    assert f"tried unix://{tmp_path}/docker.sock (DOCKER_HOST)" in found.shown
    assert "DOCKER_HOST" in found.mend


def docker_at(address: str, monkeypatch) -> Finding:
    monkeypatch.setenv("DOCKER_HOST", address)
    return docker_daemon(ask_docker())


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://no-such-host.invalid:2375"])
def test_a_daemon_on_the_network_that_is_not_there_is_told(monkeypatch, address):
    assert docker_at(address, monkeypatch).found == "nothing listens at its address"


def test_a_socket_that_is_not_there_is_a_daemon_that_does_not_run(tmp_path, monkeypatch):
    assert docker_at(f"unix://{tmp_path}/docker.sock", monkeypatch).found == "not running"


@pytest.mark.parametrize(("installed", "found"), [(True, "not running"), (False, "not installed")])
def test_docker_that_is_installed_is_told_from_docker_that_is_not(
    tmp_path, monkeypatch, only_these_programs, installed, found
):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if installed:
        only_these_programs("docker")
    daemon = containers.Daemon("unix:///var/run/docker.sock", FileNotFoundError(2, "No such file or directory"))
    assert docker_daemon(daemon).found == found


def test_a_socket_that_this_user_may_not_use_is_told_with_the_group_to_join(open_folder, monkeypatch):
    import docker  # noqa: F401  (a user without privileges may not read it any more)

    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(open_folder / "docker.sock"))
        daemon.listen()
        (open_folder / "docker.sock").chmod(0o000)
        with without_privileges():
            found = docker_at(f"unix://{open_folder}/docker.sock", monkeypatch)
    assert (found.state, found.found) == ("broken", "permission denied on its socket")
    assert "usermod -aG docker" in found.mend


def test_what_listens_and_is_no_docker_is_told(tmp_path, monkeypatch):
    class Garbage(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready for anything\r\n")

    with served(tmp_path / "docker.sock", Garbage) as address:
        found = docker_at(address, monkeypatch)
    assert (found.state, found.found) == ("broken", "does not answer as Docker does")


def test_a_daemon_that_hangs_is_given_up_after_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "docker.sock"))
        silent.listen()
        found = docker_at(f"unix://{tmp_path}/docker.sock", monkeypatch)
    assert found.state == "broken"
    assert "timed out" in found.detail


def test_an_address_that_is_none_is_told(monkeypatch):
    assert docker_at("nonsense://", monkeypatch).state == "broken"


class Docker(BaseHTTPRequestHandler):
    """As much of the Docker Engine API as the doctor asks for."""

    images: ClassVar = [{"RepoTags": ["nvcr.io/nvidia/tritonserver:24.10-py3", "python:3.11"]}, {"RepoTags": None}]
    runtimes: ClassVar = {"runc": {}, "nvidia": {}}

    def do_GET(self) -> None:
        path = re.sub(r"^/v[\d.]+", "", self.path).partition("?")[0]
        answers = {
            "/version": {"Version": "28.2.2", "ApiVersion": "1.50"},
            "/images/json": self.images,
            "/info": {"Runtimes": self.runtimes},
        }
        body = json.dumps(answers[path]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class BareDocker(Docker):
    images: ClassVar = [{"RepoTags": ["python:3.11"]}]
    runtimes: ClassVar = {"runc": {}}


@contextmanager
def served(path: Path, handler: type[StreamRequestHandler]):
    with ThreadingUnixStreamServer(str(path), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()


def test_a_daemon_that_answers_tells_its_triton_images_and_its_gpu_runtime(tmp_path, monkeypatch):
    with served(tmp_path / "docker.sock", Docker) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        daemon = ask_docker()
    assert docker_daemon(daemon).state == "ok"
    assert docker_daemon(daemon).detail == f"28.2.2 at {address}"
    assert (triton_images(daemon).state, triton_images(daemon).detail) == (
        "ok",
        "nvcr.io/nvidia/tritonserver:24.10-py3",
    )
    assert container_toolkit(daemon).found == "known to Docker"


def test_the_daemon_of_a_rootless_docker_is_found_where_the_docker_engine_finds_it(tmp_path, monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tritonnb.engines.daemon.SYSTEM_SOCKETS", (tmp_path / "no.sock", tmp_path / "no.sock"))
    with served(tmp_path / "docker.sock", Docker) as address:
        assert docker_daemon(ask_docker()).detail == f"28.2.2 at {address}"


@pytest.mark.parametrize(
    ("programs", "state"),
    [([], "missing"), (["nvidia-ctk"], "broken"), (["nvidia-ctk", "nvidia-container-runtime-hook"], "ok")],
)
def test_a_daemon_without_images_and_gpu_runtime_is_told_what_to_do(
    tmp_path, monkeypatch, only_these_programs, programs, state
):
    for program in programs:
        only_these_programs(program)
    with served(tmp_path / "docker.sock", BareDocker) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        daemon = ask_docker()
    assert triton_images(daemon).state == "missing"
    assert "tritonnb image build" in triton_images(daemon).mend
    assert container_toolkit(daemon).state == state
