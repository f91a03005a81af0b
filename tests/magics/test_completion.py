"""The Tab key on the line of a magic, against the real server."""

from __future__ import annotations

import os
import signal
import time

import pytest

import tritonnb as tn
from tritonnb.magics import completion
from tritonnb.magics.options import PARSERS

pytestmark = pytest.mark.requires("engine")

ON = ["--help", "--on"]
INFER = sorted(PARSERS["triton_infer"].options())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%triton_health --", ON),
        ("%triton_health ", ON),
        ("%triton_health --on ", ["serving"]),
        ("%triton_health --on=se", ["--on=serving"]),
        ("%triton_health --on other", []),
        ("%triton_health --on serving ", ["--help"]),
        ("%triton_infer ", [*INFER, "broken", "square"]),
        ("%triton_infer sq", ["square"]),
        ("%triton_infer square ", ["x=", *INFER]),
        ("%triton_infer square x=$nump", []),
        ("%triton_infer square x=$", ["x=$x"]),
        ("%triton_infer square x=$x ", INFER),
        ("%triton_infer square --outputs ", ["y"]),
        ("%triton_infer square --scaling i", ["imagenet", "inception"]),
        ("%triton_infer square --timing --sca", ["--scaling"]),
        ("%triton_infer square --model-version ", ["1"]),
        ("%triton_infer --on serving square x", ["x="]),
        ("%triton_infer nothing x", []),
        ("%triton_load square b", ["broken"]),
        ("%triton_load square s", []),
        ("%triton_deploy --engine em", ["embedded"]),
        ("%triton_deploy --restart ", ["never", "on-failure"]),
        ("%triton_deploy --name ", []),
        ("%triton_delete se", ["serving"]),
        ("%%triton_update se", ["serving"]),
        ("%%triton_deploy demo --ke", ["--keep"]),
        ("answer = %triton_infer sq", ["square"]),
        ("for _ in range(2):\n    %triton_infer sq", ["square"]),
        ("%triton_connect host --key $", ["$x"]),
        ("%triton_help met", ["metadata", "metrics"]),
        ("%triton_status zz", []),
    ],
)
def test_exactly_what_may_stand_there_is_offered(serving, line, offered):
    assert serving.completions(line) == offered


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_of_every_magic_is_offered(serving, name):
    expected = set(PARSERS[name].options())
    assert set(serving.completions(f"{PARSERS[name].prog} --")) == expected


def test_paths_of_folders_models_and_specs_are_offered_for_what_is_deployed(serving, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    for name in ("net.onnx", "spec.yaml", "notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert serving.completions("%triton_deploy n") == ["net.onnx"]
    assert serving.completions(f"%triton_deploy {tmp_path}/s") == [f"{tmp_path}/spec.yaml"]
    assert set(serving.completions("%triton_deploy ")) >= {"models/", "net.onnx", "spec.yaml", "--replace"}


def test_pictures_are_offered_for_an_input(serving, tmp_path, monkeypatch):
    for name in ("cat.png", "cow.JPG", "cat.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert serving.completions("%triton_infer square x=c") == ["x=cat.png", "x=cow.JPG"]


def test_elsewhere_ipython_completes_as_ever(serving):
    assert "%triton_deploy" in serving.completions("%triton_dep")
    serving.shell.user_ns["a_long_name"] = 1
    assert serving.completions("a_long_n") == ["a_long_name"]
    del serving.shell.user_ns["a_long_name"]


def test_a_server_that_does_not_answer_holds_nobody_up(serving):
    server = tn.deployment()._run.engine._process.pid
    os.kill(server, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert serving.completions("%triton_infer sq") == []
        assert time.monotonic() - began < completion.PATIENCE_S + 0.5
    finally:
        os.kill(server, signal.SIGCONT)
    assert serving.completions("%triton_infer sq") == ["square"]


def test_an_error_offers_nothing_and_is_not_shown(serving, monkeypatch, capsys):
    monkeypatch.setattr(completion, "offers", lambda *_, **__: 1 / 0)
    serving.completions("%triton_infer sq")
    shown = capsys.readouterr()
    assert "ZeroDivisionError" not in shown.out + shown.err


def test_reloading_the_extension_registers_it_once_and_unloading_takes_it_away(serving):
    def ours():
        return [
            m for m in serving.shell.Completer.custom_matchers if getattr(m, "matcher_identifier", "") == "tritonnb"
        ]

    serving.run("%reload_ext tritonnb")
    assert len(ours()) == 1
    serving.run("%unload_ext tritonnb")
    assert ours() == []
    serving.run("%load_ext tritonnb")
    assert len(ours()) == 1
