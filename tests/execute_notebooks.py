"""Execute notebooks and save their outputs and their widgets' state: ``make notebooks``.

Outputs are those that the tests compare, so volatile values are left out (TRITONNB_STABLE_OUTPUT), and what
changes with every run or machine (times of execution, the Python's patch release) is not saved.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> None:
    """Execute a notebook in its own folder, as JupyterLab would, and save it."""
    notebook = nbformat.read(path, as_version=4)
    # The widgets' state of an earlier run would stay beside the new one's.
    notebook.metadata.pop("widgets", None)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=300,
        record_timing=False,
        store_widget_state=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata["language_info"].pop("version", None)
    nbformat.write(notebook, path)


def main() -> None:
    """Execute the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description="Execute notebooks and save their outputs.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    os.environ["TRITONNB_STABLE_OUTPUT"] = "1"
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    for path in parser.parse_args().notebooks:
        print(f"Executing {path} ...", flush=True)
        execute(path)


if __name__ == "__main__":
    main()
