"""A shell that serves one deployment to all tests of a module."""

from __future__ import annotations

import numpy as np
import pytest
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell

import tritonnb as tn


class Serving:
    """A real shell with tritonnb loaded."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    def run(self, cell: str) -> object:
        """Run a cell and return its result, or raise its error."""
        outcome = self.shell.run_cell(cell)
        outcome.raise_error()
        return outcome.result

    def completions(self, text: str) -> list[str]:
        """Return what the Tab key offers at the end of a text, each with what stays of its line before it."""
        from IPython.core.completer import provisionalcompleter

        with provisionalcompleter():
            return [
                text[: c.start].rpartition(" ")[2] + c.text for c in self.shell.Completer.completions(text, len(text))
            ]


@pytest.fixture(scope="module")
def serving(tmp_path_factory, square):
    """A shell with a deployment ``serving`` of two models, of which one is broken."""
    models = tmp_path_factory.mktemp("served") / "models"
    for name, content in (("square", square), ("broken", b"no ONNX")):
        (models / name / "1").mkdir(parents=True)
        (models / name / "1" / "model.onnx").write_bytes(content)
    patch = pytest.MonkeyPatch()
    patch.setattr(HistoryManager, "enabled", False)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.user_ns.update(x=np.arange(8, dtype=np.float32).reshape(2, 4), numpy=np)
    serving = Serving(shell)
    serving.run("%load_ext tritonnb")
    serving.run(f"%triton_deploy {models} --name serving --engine embedded")
    yield serving
    for running in tn.deployments():
        running.delete()
    InteractiveShell.clear_instance()
    patch.undo()
