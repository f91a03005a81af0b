"""What a saved notebook keeps of a dashboard; and what comes from a model or a file is text in it, never HTML."""

from __future__ import annotations

import html
import json
import re
import time
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter

import tritonnb as tn
from tritonnb.widgets import dashboard

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "07-dashboard.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
RUNS_CODE = re.compile(r"<script|<iframe|<[^>]+\son\w+\s*=|javascript:", re.IGNORECASE)


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def dashboards(notebook):
    """Return what was saved of each output that is a widget, by its mime types."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data for output in outputs if WIDGET in output.get("data", {})]


def exported(notebook):
    page, _ = HTMLExporter().from_notebook_node(notebook)
    return page


def of_script(page, mime):
    """Return the JSON of the scripts of one type: data for a program, which is how nbconvert saves widgets."""
    return [
        json.loads(text) for text in re.findall(rf'<script type="{re.escape(mime)}">(.*?)</script>', page, re.DOTALL)
    ]


def cells_of(tables):
    """Return the words in the cells of HTML tables."""
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", tables, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in cells]


def test_a_page_with_the_widgets_state_shows_the_widgets(notebook):
    page = exported(notebook)
    (state,) = of_script(page, STATE)
    shown = [view["model_id"] for view in of_script(page, WIDGET)]
    assert shown == [data[WIDGET]["model_id"] for data in dashboards(notebook)]
    assert len(shown) == 3
    assert all(state["state"][model_id]["model_name"] == "VBoxModel" for model_id in shown)
    values = [str(widget["state"].get("value", "")) for widget in state["state"].values()]
    for word in ("● ready", "○ stopped", "classifier", "The deployment is gone", "%triton_infer classifier"):
        assert any(word in value for value in values), word


def test_a_page_without_the_widgets_state_shows_tables_with_the_same_words(notebook):
    state = notebook.metadata.pop("widgets")[STATE]["state"]
    page = exported(notebook)
    assert of_script(page, WIDGET) == []
    watched = dashboards(notebook)[0]["text/html"]
    assert "● READY" in cells_of(watched)
    assert set(cells_of(watched)) <= set(cells_of(page))
    live = [str(widget["state"].get("value", "")) for widget in state.values()]
    assert any(cells_of(value) == cells_of(watched) for value in live)


def test_no_widget_and_nothing_beside_it_runs_code_of_its_own(notebook):
    for data in dashboards(notebook):
        assert not RUNS_CODE.search(data["text/html"])
    for widget in notebook.metadata["widgets"][STATE]["state"].values():
        assert not RUNS_CODE.search(str(widget["state"].get("value", "")))


# What a model, or a file beside it, may say.
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>"
MODEL = f"""
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_name"]
        if self.name == "broken":
            raise ValueError({ATTACK!r})
    def execute(self, requests):
        print({ATTACK!r}, flush=True)
        return [self.answer(pb_utils.get_input_tensor_by_name(r, "x").as_numpy()) for r in requests]
    def answer(self, x):
        if x[0] < 0:
            raise ValueError({ATTACK!r})
        said = pb_utils.Tensor("said", np.array([{ATTACK!r}.encode()], np.object_))
        scores = pb_utils.Tensor("y", np.array([1, 2], np.float32))
        return pb_utils.InferenceResponse([said if self.name == "speaker" else scores])
"""
OUTPUTS = {
    "speaker": 'name: "said" data_type: TYPE_STRING dims: [1]',
    "labelled": 'name: "y" data_type: TYPE_FP32 dims: [2] label_filename: "labels.txt"',
    "broken": 'name: "y" data_type: TYPE_FP32 dims: [2]',
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Serve models whose labels, answers, errors and log are markup."""
    repository = tmp_path_factory.mktemp("repository")
    for name, output in OUTPUTS.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(MODEL)
        (repository / name / "labels.txt").write_text(f"{ATTACK}\nharmless\n")
        (repository / name / "config.pbtxt").write_text(
            f'backend: "python" input {{ name: "x" data_type: TYPE_FP32 dims: [1] }} output {{ {output} }}'
        )
    with tn.deploy(repository, name="hostile", engine="embedded") as deployment:
        yield deployment


def html_in(widget):
    """Return the HTML in a widget and in those below it."""
    own = [widget.value] if type(widget).__name__ == "HTML" else []
    return own + [text for child in getattr(widget, "children", ()) for text in html_in(child)]


def shows(widget, word):
    """Wait until a widget shows a word; return whether it came to."""
    deadline = time.monotonic() + 20
    while not any(word in text for text in html_in(widget)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return any(word in text for text in html_in(widget))


@pytest.fixture
def board(hostile, request):
    board = dashboard(hostile, request.param)
    yield board
    texts = [*html_in(board), board._repr_mimebundle_()["text/html"]]
    assert not [text for text in texts if RUNS_CODE.search(text)]
    board.close()


@pytest.mark.parametrize("board", [["health"], ["logs"]], indirect=True)
def test_markup_in_a_reason_or_in_the_log_is_shown_as_text(board):
    assert shows(board, html.escape(ATTACK))


@pytest.mark.parametrize("board", [["playground"]], indirect=True)
@pytest.mark.parametrize(
    ("model", "value", "classes", "shown"),
    [
        ("speaker", "[1]", 0, html.escape(ATTACK)),  # the answer
        ("labelled", "[1]", 2, html.escape(ATTACK)),  # a label
        ("speaker", "[-1]", 0, html.escape(ATTACK)),  # an error
        ("speaker", "[1]", 2, "holds text"),
        ("speaker", ATTACK, 0, "is no JSON"),
    ],
)
def test_markup_in_an_answer_a_label_or_an_error_is_shown_as_text(board, model, value, classes, shown):
    (panel,) = board._panels
    panel._model.value = model
    (field,) = panel._fields
    field.how.value = "a value"
    field._text.value = value
    panel._classes.value = classes
    panel._send.click()
    assert shows(board, shown)


@pytest.mark.parametrize("board", [["models"]], indirect=True)
def test_markup_in_the_reason_of_a_model_that_is_chosen_is_shown_as_text(board):
    board._panels[0]._model.value = "broken"
    assert shows(board, html.escape(ATTACK))
