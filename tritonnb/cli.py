"""The command line: the same verbs outside a notebook."""

from __future__ import annotations

import argparse
import sys

from tritonnb.errors import Interrupted, TritonNbError


def main(arguments: list[str] | None = None) -> int:
    """Run ``tritonnb``; return its exit status (0, 1 for an error that was told, 130 after Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="tritonnb", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    engine = verbs.add_parser("engine", help="the embedded engine").add_subparsers(metavar="VERB", required=True)
    engine.add_parser("install", help="build the engine ahead of its first use").set_defaults(run=_engine_install)
    verbs.add_parser("demo", help="serve a real model and show what it sees in three pictures").set_defaults(run=_demo)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run()
    except TritonNbError as error:
        print(f"tritonnb: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        print(f"tritonnb: {interrupt}", file=sys.stderr)
        return 130
    return status


def _engine_install() -> int:
    from tritonnb.environments import engine_environment  # noqa: PLC0415  (each verb imports what it needs)
    from tritonnb.render.progress import Progress  # noqa: PLC0415

    with Progress("Building the engine") as progress:
        environment = engine_environment(progress.report)
    print(f"The engine is ready: Python {environment.interpreter.minor} in {environment.folder}")
    return 0


def _demo() -> int:
    from tritonnb.demo import main as demo  # noqa: PLC0415

    return demo()
