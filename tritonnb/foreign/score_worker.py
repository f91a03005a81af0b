"""Starts one worker of an entry-script tier, in the environment of the script.

``score_worker.py CONTROL LISTENER BOARD SLOT``: three descriptors of the master's, and this worker's place on its
board. The host is loaded from beside this file under a name of its own, so that neither this folder nor any name in it
is on the script's path.
"""

import importlib.util
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).parent / "score_host"
    spec = importlib.util.spec_from_file_location(
        "tritonnb_score_host", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    worker = importlib.import_module(f"{spec.name}.worker")
    worker.main(*map(int, sys.argv[1:]))
