"""Execute notebooks and save their outputs and their widgets' state: ``make notebooks``.

Outputs are those that the tests compare, so volatile values are left out (TRITONNB_STABLE_OUTPUT), and what changes
with every run or machine (times of execution, the Python's patch release, the widgets' ids, the lines of a log) is not
saved. The widgets' state is that before the last cell, which cleans up: after it, all that a dashboard says is that its
deployment is gone. A notebook that needs Docker is given what the tests are given: the daemon that answers, else one of
its own, and the CPU image in it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

sys.path.append(str(Path(__file__).parent / "plugins"))  # as pytest's configuration has it
from docker_session import DOCKER

# In JSON, where a log's panel has them.
LOG_LINES = re.compile(r"(tnb-tail[^>]*><pre>)[^<]*")


def execute(path: Path) -> None:
    """Execute a notebook in its own folder, as JupyterLab would, and save it."""
    notebook = nbformat.read(path, as_version=4)
    # The widgets' state of an earlier run would stay beside the new one's.
    notebook.metadata.pop("widgets", None)
    with pytest.MonkeyPatch.context() as patch:
        if "docker" in notebook.metadata.get("tritonnb", {}).get("needs", []):
            if reason := DOCKER.missing():
                sys.exit(f"It needs Docker: {reason}")
            patch.setenv("DOCKER_HOST", DOCKER.host)
            DOCKER.image()
        before_clean_up = {}

        def keep_widgets(*, cell, cell_index):  # as nbclient calls it
            if cell is notebook.cells[-1]:
                client.set_widgets_metadata()
                before_clean_up.update(deepcopy(notebook.metadata.get("widgets", {})))

        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=300,
            record_timing=False,
            store_widget_state=True,
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_start=keep_widgets,
        )
        client.execute()
    if before_clean_up:
        notebook.metadata["widgets"] = before_clean_up
    notebook.metadata["language_info"].pop("version", None)
    nbformat.write(steady(notebook), path)


def steady(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook with its widgets numbered as they were made, and no lines of a log in them."""
    text = nbformat.writes(notebook)
    for saved in notebook.metadata.get("widgets", {}).values():
        for number, model_id in enumerate(saved["state"]):
            text = text.replace(model_id, f"widget-{number:04}")
    return nbformat.reads(LOG_LINES.sub(r"\1The lines of the log are not saved.", text), as_version=4)


def main() -> None:
    """Execute the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description="Execute notebooks and save their outputs.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    os.environ["TRITONNB_STABLE_OUTPUT"] = "1"
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    try:
        for path in parser.parse_args().notebooks:
            print(f"Executing {path} ...", flush=True)
            execute(path)
    finally:
        DOCKER.stop()


if __name__ == "__main__":
    main()
