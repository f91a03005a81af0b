"""What is on disk of deployments: found while they live, swept when they are dead, left alone while they are made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tritonnb import records
from tritonnb.home import home
from tritonnb.supervise import Job, SupervisedProcess, started


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITONNB_HOME", str(tmp_path))


@pytest.fixture
def make():
    """Make a deployment whose server only sleeps; what is left of them is stopped after the test."""
    processes = []

    def start(name: str, *, keep: bool = False, recorded: bool = True, owner: int | None = None) -> Path:
        folder = records.new_folder(name)
        folder.mkdir()
        prefix = f"tritonnb_{folder.name}_"
        Path("/dev/shm", f"{prefix}region").touch()
        processes.append(
            SupervisedProcess.start(
                Job(
                    ["sleep", "600"],
                    dict(os.environ),
                    str(folder / "log"),
                    prefix,
                    owner=None if keep else os.getpid(),
                    grace_s=0.1,
                ),
                folder,
            )
        )
        if recorded:
            of = owner or os.getpid()
            record = records.Record(
                name, "embedded", "name: x", "s3cret", "u", "g", "m", of, started(of), keep, time.time(), folder
            )
            records.write(record)
        return folder

    yield start
    for process in processes:
        process.stop()


def supervisor_of(folder: Path) -> psutil.Process:
    return psutil.Process(SupervisedProcess.attach(folder)._first.supervisor)


def make_old(folder: Path) -> None:
    os.utime(folder, (time.time() - 2 * records.YOUNG_S,) * 2)


def test_a_record_is_found_by_name_the_oldest_first_and_its_key_is_for_this_user_alone(make):
    folder = make("first")
    make("second")
    assert [record.name for record in records.records()] == ["first", "second"]
    record = records.record_of("first")
    assert record.folder == folder
    assert record.of_this_process
    assert "s3cret" not in repr(record) + repr(record.endpoint)
    assert (folder / "deployment.json").stat().st_mode & 0o077 == 0
    assert records.record_of("third") is None


def test_what_a_killed_supervisor_left_is_swept_its_server_and_shared_memory_too(make):
    folder = make("orphan")
    server = psutil.Process(SupervisedProcess.attach(folder).pid)
    supervisor = supervisor_of(folder)
    supervisor.kill()
    supervisor.wait(5)
    assert records.record_of("orphan") is None
    assert records.sweep() == ["orphan"]
    assert not folder.exists()
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not list(Path("/dev/shm").glob(f"tritonnb_{folder.name}*"))


@pytest.mark.parametrize("keep", [False, True])
def test_a_deployment_that_lives_is_not_swept(make, keep):
    folder = make("living", keep=keep)
    make_old(folder)
    assert records.sweep() == []
    assert records.record_of("living")


def test_a_deployment_that_is_being_made_is_not_swept_while_it_is_young_or_its_name_is_locked():
    folder = records.new_folder("fresh")
    folder.mkdir()
    assert records.sweep() == []
    make_old(folder)
    with records.name_lock("fresh"):
        assert records.sweep() == []
    assert records.sweep() == ["fresh"]
    assert not folder.exists()


def test_a_kept_server_whose_maker_was_killed_before_it_was_recorded_is_swept(make):
    folder = make("nameless", keep=True, recorded=False)
    assert records.sweep() == []
    make_old(folder)
    assert records.sweep() == ["nameless"]
    assert not folder.exists()


def test_a_name_whose_owner_has_ended_is_waited_for_until_its_server_has_ended_too(make):
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = make("ending", owner=owner.pid)
    owner.communicate()
    assert records.record_of("ending") is None
    timer = threading.Timer(0.3, supervisor_of(folder).terminate)  # as the supervisor notices its owner's end
    timer.start()
    calls = []
    records.wait_for_ends("ending", lambda: calls.append(1))
    timer.join()
    assert calls
    assert not folder.exists()


def test_the_end_of_no_other_name_is_waited_for(make):
    owner = subprocess.Popen([sys.executable, "-c", ""])
    owner.wait()
    make("name-other", owner=owner.pid)
    began = time.monotonic()
    records.wait_for_ends("name")
    assert time.monotonic() - began < 1


def test_a_name_is_held_by_one_process_at_a_time():
    code = "from tritonnb.records import name_lock\nwith name_lock('held'):\n print('in', flush=True)\n input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout.readline() == "in\n"
        waited = []

        def each():
            waited.append(1)
            other.kill()  # a lock does not outlive its process

        with records.name_lock("held", each):
            assert waited


def test_a_half_written_record_or_one_of_another_release_is_passed_over_and_not_swept(make):
    folder = make("other", keep=True)
    (folder / "deployment.json").write_text('{"name": "other", "unknown": 1}')
    make_old(folder)
    assert records.records() == []
    assert records.sweep() == []
    (folder / "deployment.json").write_text('{"name"')
    assert records.records() == []
    assert home() in folder.parents
