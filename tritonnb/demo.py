"""Serve a real model and show what it sees in three pictures: ``make demo``, ``tritonnb demo``.

It takes the steps of ``notebooks/01-quickstart.ipynb`` and prints what each of them gives.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.client import Client
from tritonnb.deploying import deploy
from tritonnb.errors import Interrupted, TritonNbError
from tritonnb.home import home
from tritonnb.samples import MODEL_NAME, lay_out, picture, preprocess, top

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonnb.handle import Deployment

_PICTURES = ("chelsea", "coffee", "camera")


def main(arguments: Sequence[str] = ()) -> int:
    """Run the demo; return its exit status (0, 1 for an error that was told, 130 after Ctrl-C)."""
    argparse.ArgumentParser(prog="tritonnb demo", description=__doc__).parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="tritonnb-demo-") as folder:
            _run(Path(folder))
    except TritonNbError as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        what = str(interrupt) if isinstance(interrupt, Interrupted) else "the server was stopped."
        print(f"\nInterrupted: {what}", file=sys.stderr)
        return 130
    return 0


def _run(folder: Path) -> None:
    _say("1. Lay out a model repository: one file, no configuration")
    model = lay_out(folder)
    _show(f"{model} ({model.stat().st_size / 1e6:.1f} MB)")

    _say("2. Deploy it (the very first time, the engine is built: a minute or two)")
    began = time.monotonic()
    with deploy(folder, name="demo", engine="embedded") as dep:
        _show(f"{_server(dep)} of the {dep.engine} engine, at {dep.url}, after {time.monotonic() - began:.1f} s")

        _say("3. Ask how it is")
        _show(dep.health())

        _say("4. Ask what the model takes and gives")
        _show(dep.metadata(MODEL_NAME))

        for step, name in enumerate(_PICTURES, start=5):
            _say(f"{step}. Ask what is in the picture {name!r}")
            x = preprocess(picture(name))
            began = time.monotonic()
            result = dep.infer(MODEL_NAME, {"data_0": x})
            milliseconds = (time.monotonic() - began) * 1e3
            _show("\n".join(f"{best.probability:6.1%}  {best.label}" for best in top(result["fc6_1"])))
            _show(f"(in {milliseconds:.0f} ms)")
    _say("8. Delete the deployment")
    _show("The server has stopped, and nothing of it is left.")
    _say(
        f"Kept for the next time in {home()}: the engine and the sample model.\n"
        "Next: `make lab` opens notebooks/01-quickstart.ipynb, where you do the same yourself."
    )


def _server(dep: Deployment) -> str:
    """Return the name and version that the server gives itself (``GET /v2``)."""
    with closing(Client(dep.endpoint)) as client:
        about = client.server_metadata()
    return f"{about['name']}server {about['version']}"


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _show(result: object) -> None:
    print("   " + str(result).replace("\n", "\n   "), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
