"""The notebooks as they are saved; that they still give these outputs is nbval's part of the same session."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

VOLATILE = {
    "a port": r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0):\d+",
    "an absolute path": r"(?<![\w.:/<])/(?:home|root|Users|tmp|work|var|opt|usr|mnt|srv)/[\w.-]+",
    "an address in memory": r"\b0x[0-9a-f]{6,}\b",
    "an id": r"\b(?:[0-9a-f]{12,64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b",
    "a process id": r"\bpid\W{1,3}\d+",
    "a date or a time of day": r"\b\d{4}-\d\d-\d\d\b|\b\d\d:\d\d:\d\d\b",
    "a duration": r"\b\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|seconds)\b",
}
IGNORES = re.compile(r"nbval[-_]ignore[-_]output|nbval[-_]skip", re.IGNORECASE)


@pytest.fixture(params=sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_ignored(cell) -> bool:
    return bool(IGNORES.search(" ".join([*cell.metadata.get("tags", []), cell.source])))


def shown(output) -> list[str]:
    """Return the texts of an output that a reader sees and nbval compares."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [output.ename, output.evalue, *output.traceback]
    return [text for mime, text in output.data.items() if isinstance(text, str) and not mime.startswith("image/")]


def test_is_valid_and_asks_for_any_python_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_was_executed_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"


def test_gives_a_reason_for_every_output_that_is_ignored(notebook):
    silent = [
        cell.source
        for cell in code_cells(notebook)
        if is_ignored(cell) and not cell.metadata.get("tritonnb", {}).get("ignored because")
    ]
    assert not silent


@pytest.mark.parametrize("what", VOLATILE)
def test_shows_nothing_that_changes_from_run_to_run(notebook, what):
    found = [
        match.group()
        for cell in code_cells(notebook)
        if not is_ignored(cell)
        for output in cell.outputs
        for text in shown(output)
        for match in re.finditer(VOLATILE[what], text)
    ]
    assert not found


def test_holds_no_path_of_the_machine_that_executed_it(notebook):
    everything = [cell.source for cell in notebook.cells]
    everything += [text for cell in code_cells(notebook) for output in cell.outputs for text in shown(output)]
    found = [match.group() for text in everything for match in re.finditer(VOLATILE["an absolute path"], text)]
    assert not found


def test_shows_no_error_but_where_one_is_the_lesson(notebook):
    for cell in code_cells(notebook):
        meant = "raises-exception" in cell.metadata.get("tags", [])
        failed = [output for output in cell.outputs if output.output_type == "error"]
        assert bool(failed) == meant, cell.source
        # A UsageError has no error output: every runner would pass the cell.
        assert not any(text.startswith("UsageError") for output in cell.outputs for text in shown(output))


def test_saves_the_state_of_its_widgets_or_none_at_all(notebook):
    # GitHub refuses a notebook whose widgets lack their state.
    for saved in notebook.metadata.get("widgets", {}).values():
        assert saved["state"]


@pytest.mark.parametrize("what", VOLATILE)
def test_the_state_of_its_widgets_holds_nothing_that_changes_from_run_to_run(notebook, what):
    found = [
        match.group()
        for saved in notebook.metadata.get("widgets", {}).values()
        for widget in saved["state"].values()
        for text in widget["state"].values()
        if isinstance(text, str)
        for match in re.finditer(VOLATILE[what], text)
    ]
    assert not found
