"""Environments of extra packages are listed with whoever uses them, and those that nobody uses are removed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from python_models import python_model
from wheels import write_wheel

import tritonnb as tn
from tritonnb.cleaning import clean
from tritonnb.environments import engine_environment, overlay
from tritonnb.overlays import overlays, prune, remove_overlay

pytestmark = pytest.mark.requires("engine")

SCRIPT = "import tnbtwo\ndef init(): pass\ndef run(data): return tnbtwo.VERSION\n"


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """Return the overlays' folder in a home of this test's own, with the session's engine and wheels of its own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "engines").symlink_to(engine_environment().folder.parent)
    monkeypatch.setenv("TRITONNB_HOME", str(home))
    for name in ("tnbone", "tnbtwo", "tnbthree"):
        write_wheel(tmp_path / "wheels", name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return home / "overlays"


def age(*made):
    """Let it be long ago that environments were asked for."""
    for environment in made:
        os.utime(environment.folder / "overlay.json", (1e9, 1e9))


def test_those_that_a_server_or_an_entry_script_runs_from_stay(shelf, tmp_path):
    model = tmp_path / "echo" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text(python_model("import tnbone"))
    unused = overlay(["tnbthree"])
    with tn.deploy(tmp_path / "echo", name="server", environment={"pip": ["tnbone"]}) as dep:
        dep.write_score(SCRIPT, pip=["tnbtwo"], port=0)
        age(unused, overlay(["tnbone"]), overlay(["tnbone", "tnbtwo"]))
        assert {one.requirements: one.used_by for one in overlays()} == {
            ("tnbthree",): (),
            ("tnbone",): ("server",),
            ("tnbone", "tnbtwo"): ("server",),
        }
        said = str(prune())
        assert dep.run("{}") == "1.0"
        dep.restart()
        assert [model.state for model in dep.models()] == ["READY"]
    assert f"Removed {unused.folder.name} (tnbthree)." in said
    assert re.search(r"\(tnbone, tnbtwo\) stays: used by server\.", said)
    age(overlay(["tnbone"]), overlay(["tnbone", "tnbtwo"]))
    assert len(prune().removed) == 2
    assert list(shelf.iterdir()) == []
    assert str(prune()) == "There was nothing to remove."
    assert str(overlays()) == "No environment of extra packages."


def test_one_that_was_just_asked_for_stays_as_its_server_may_be_about_to_start():
    made = overlay(["tnbone"])
    assert str(prune()) == f"{made.folder.name} (tnbone) stays: asked for within the last minute."
    assert made.folder.exists()


def test_two_that_prune_at_once_stand_in_each_other_s_way_no_more_than_needed(shelf):
    age(overlay(["tnbone"]))
    [seen] = overlays()
    prune()
    remove_overlay(seen)
    assert list(shelf.iterdir()) == []


def test_the_list_shows_packages_size_and_use():
    age(overlay(["tnbone", "tnbtwo>=1"]))
    title, header, row = str(overlays()).splitlines()
    assert title == "1 environment of extra packages"
    assert header.split() == ["Name", "Packages", "Size", "Last", "used", "Used", "by"]
    assert re.search(r"py3\S+ +tnbone, tnbtwo>=1 +\d\.\d MB +2001-09-09 \d\d:\d\d +-$", row)


def test_what_a_killed_build_has_left_is_removed_and_one_that_goes_on_is_not(shelf):
    build = "from tritonnb.environments import overlay; overlay(['tnbone'])"
    slow = {**os.environ, "PIP_FIND_LINKS": "http://192.0.2.1/", "PIP_RETRIES": "20"}  # an address that never answers
    with subprocess.Popen([sys.executable, "-c", build], env=slow, start_new_session=True) as builder:
        while not list(shelf.glob("*.building-*/env")):
            assert builder.poll() is None, "the build ended too early"
            time.sleep(0.01)
        prune()
        assert len(list(shelf.glob("*.building-*"))) == 1
        os.killpg(builder.pid, signal.SIGKILL)
    prune()
    assert list(shelf.iterdir()) == []


def test_clean_removes_the_packages_of_an_engine_that_is_gone_but_no_engine_whose_packages_are_used(shelf):
    engines = shelf.parent / "engines"
    engines.unlink()
    engines.mkdir()
    gone, needed = "py3.11-000000000000", "py3.11-111111111111"
    for engine in (gone, needed):
        (engines / engine).mkdir()
        (shelf / f"{engine}-0").mkdir(parents=True)
        (shelf / f"{engine}-0" / "overlay.json").write_text('{"requirements": ["nltk"]}')
        os.utime(shelf / f"{engine}-0" / "overlay.json", (1e9, 1e9))
    tier = shelf.parent / "score" / "kept-12345678"
    tier.mkdir(parents=True)
    (tier / "plan.json").write_text(f'{{"python": "{shelf / needed}-0/bin/python3"}}')
    cleaned = clean()
    assert (cleaned.engines, cleaned.overlays) == ((gone,), ("nltk",))
    assert {path.name for path in (*engines.iterdir(), *shelf.iterdir())} == {needed, f"{needed}-0"}
    assert "Removed the extra packages nltk, whose engine is gone." in str(cleaned)


def test_one_that_was_removed_is_built_again():
    first = overlay(["tnbone"])
    age(first)
    prune()
    assert not first.folder.exists()
    assert overlay(["tnbone"]) == first
    assert first.python.exists()
