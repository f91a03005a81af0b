"""The dashboard over a real deployment, without a front end: what it shows, what it leaves, what it costs."""

from __future__ import annotations

import gc
import html
import itertools
import sys
import threading

import numpy as np
import psutil
import pytest

import tritonnb as tn
from tritonnb.errors import SpecError
from tritonnb.widgets import Look, Looker, dashboard
from tritonnb.widgets.health import HealthPanel
from tritonnb.widgets.logs import filtered
from tritonnb.widgets.models import settings
from tritonnb.widgets.traffic import HISTORY_S, STEP_S

pytestmark = pytest.mark.requires("engine")
X = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module")
def served(square, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "square.onnx").write_bytes(square)
    with tn.deploy(folder / "square.onnx", name="seen", engine="embedded") as deployment:
        yield deployment


@pytest.fixture
def board(served):
    board = dashboard(served)
    yield board
    board.close()


def until(condition, seconds=20.0):
    """Wait until a condition holds; return whether it came to."""
    waiting = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        waiting.wait(0.05)
    return False


def panel(board, name):
    return next(panel for panel in board._panels if panel.title.lower() == name)


def test_every_part_shows_the_deployment(board):
    assert "● ready" in board._head.value
    assert "square" in panel(board, "health")._table.value
    assert "[N, 4]" in panel(board, "models")._about.value
    assert until(lambda: "tnb-log" in panel(board, "logs")._lines.value)


def test_one_part_can_be_had_alone_and_an_unknown_one_is_told(served):
    alone = dashboard(served, ["health"])
    assert [type(panel) for panel in alone._panels] == [HealthPanel]
    alone.close()
    with pytest.raises(SpecError, match="no part 'helth'") as caught:
        dashboard(served, ["helth"])
    assert "health" in caught.value.hint


def test_text_and_html_stand_beside_the_widget_and_are_the_same_in_every_run(board):
    bundle = board._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == board.model_id
    assert bundle["text/plain"].splitlines() == [
        "Dashboard of 'seen'",
        "Server",
        "  State   ● ready",
        "  Models  1 of 1 ready",
        "  Engine  embedded",
        "Models",
        "  Model   Version  State    Reason",
        "  square  1        ● READY",
    ]
    assert "<script" not in bundle["text/html"]
    assert all(word in bundle["text/html"] for word in ("● READY", "square", '<th scope="row">', "<caption>"))


def test_the_models_alone_leave_what_the_model_takes(served):
    alone = dashboard(served, ["models"])
    bundle = alone._repr_mimebundle_()
    assert bundle["text/plain"].splitlines()[1:] == repr(served.metadata("square")).splitlines()
    assert bundle["text/html"] == served.metadata("square")._repr_html_()
    alone.close()


def test_requests_are_seen_within_two_looks(served, board, monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    for _ in range(30):
        served.infer("square", {"x": X})
    assert until(lambda: board._look.by_model["square"].requests_per_s > 0, 3.0)
    assert until(lambda: panel(board, "health")._chart.value != b"")
    assert "Requests/s" in panel(board, "health")._table.value


def test_buttons_act_in_the_background_and_say_what_came_of_it(served, board):
    health = panel(board, "health")
    load, unload, *_ = health._buttons
    unload.click()
    assert until(lambda: "is unloaded" in health._note.value)
    assert until(lambda: "UNAVAILABLE" in health._table.value)
    assert not unload.disabled
    load.click()
    assert until(lambda: "is loaded" in health._note.value)
    assert until(lambda: "● READY" in health._table.value)


def test_what_fails_in_a_callback_is_shown_and_stops_nothing(served, board):
    health = panel(board, "health")
    health._model.options = ("square", "<script>no</script>")
    health._model.value = "<script>no</script>"
    health._buttons[0].click()
    assert until(lambda: "tnb-bad" in health._note.value)
    assert "<script>" not in health._note.value
    assert html.escape("<script>no</script>") in health._note.value.replace("&#39;", "'")
    assert board.polling


def test_stopping_asks_first_and_then_the_dashboard_says_that_it_is_gone_and_ends(square):
    deployment = tn.deploy(square, name="doomed", engine="embedded")
    board = dashboard(deployment)
    health = panel(board, "health")
    health._buttons[-1].click()
    assert deployment.state == "ready"
    _, yes, no = health._sure.children
    no.click()
    assert health._sure.layout.display == "none"
    health._buttons[-1].click()
    yes.click()
    assert until(lambda: "is gone" in board._head.value)
    assert "○ stopped" in board._head.value
    assert until(lambda: not board.polling)
    board.close()


def test_a_killed_process_of_a_model_shows_as_degraded_within_two_looks(square):
    with tn.deploy(square, name="wounded", engine="embedded") as deployment:
        board = dashboard(deployment)
        stubs = [p for p in psutil.process_iter(["cmdline", "environ"]) if "stub" in " ".join(p.info["cmdline"] or [])]
        mine = [p for p in stubs if str(deployment._run.folder) in " ".join(p.info["cmdline"])]
        assert mine
        for process in mine:
            process.kill()
        assert until(lambda: "▲ degraded" in board._head.value, 3.0)
        board.close()


def test_a_closed_dashboard_leaves_no_thread(served):
    before = threading.active_count()
    boards = [dashboard(served) for _ in range(3)]
    for board in boards:
        board.close()
        board.close()
    assert until(lambda: threading.active_count() == before)


def test_many_threads_may_use_one_dashboard(served, board):
    failures = []

    def hammer():
        try:
            for _ in range(20):
                board._see(board._look)
                repr(board)
                board._repr_mimebundle_()
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert board.polling


@pytest.mark.timeout(240)
def test_an_hour_of_looks_keeps_no_more_than_five_minutes(served, board, monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    board._poller.stop()
    seconds = itertools.count()
    looker = Looker(served, clock=lambda: next(seconds))
    memory = []
    for look in range(3600):
        if look % 10 == 0:
            served.infer("square", {"x": X})
        board._see(looker.look())
        if look in (900, 3599):
            gc.collect()
            memory.append(psutil.Process().memory_info().rss)
    assert len(board._look.steps) <= HISTORY_S / STEP_S + 1
    assert memory[1] - memory[0] < 5 * 2**20


def test_without_ipywidgets_it_is_a_table(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "tritonnb.widgets.board")
    shown = dashboard(served)
    assert isinstance(shown, Look)
    assert "● READY" in repr(shown)
    assert "<caption>Server</caption>" in shown._repr_html_()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, {"Batching": "none: a request is what the model sees", "Instances": "1"}),
        ({"max_batch_size": 4}, {"Batching": "up to 4 in a request; requests are not put together"}),
        (
            {
                "max_batch_size": 8,
                "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 200},
                "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
            },
            {
                "Batching": "dynamic, batches of up to 8, preferably of 4 or 8, "
                "a request waits up to 200 µs for others",
                "Instances": "2 on the CPU",
            },
        ),
        (
            {"ensemble_scheduling": {"step": [{"model_name": "a"}, {"model_name": "b"}]}},
            {"Made of": "a -> b"},
        ),
    ],
)
def test_a_configuration_is_told_in_words(config, words):
    told = dict(settings(config))
    assert {topic: told[topic] for topic in words} == words


LOG = "I1122 10:00:00.1 1 a.cc:1] up\nE1122 10:00:01.1 1 b.cc:2] square failed\n  because\nW1122 10:00:02.1 1 c] slow"


@pytest.mark.parametrize(
    ("levels", "text", "lines"),
    [
        ("", "", 4),
        ("EF", "", 2),
        ("WEF", "", 3),
        ("", "SQUARE", 1),
        ("EF", "slow", 0),
    ],
)
def test_a_log_is_filtered_by_level_and_text(levels, text, lines):
    assert len(filtered(LOG, levels, text)) == lines
