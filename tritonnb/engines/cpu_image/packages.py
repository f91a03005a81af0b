"""Further Python packages for the image, fetched on this machine with the engine environment's pip."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from typing import TYPE_CHECKING

from tritonnb.environments import addresses
from tritonnb.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tritonnb.environments import EngineEnvironment


def install_beside(environment: EngineEnvironment, pip: Sequence[str], folder: Path) -> None:
    """Install packages into a folder that is to be searched before the environment's: only what that lacks.

    Parameters
    ----------
    environment
        The engine environment; it is not changed.
    pip
        The packages, in pip's words.
    folder
        An empty folder.

    Raises
    ------
    EngineError
        pip cannot get them, or they do not go together with the environment's numpy.
    """
    requirements = files("tritonnb").joinpath("engine-requirements.txt").read_text().splitlines()
    # The server's Python stub sends empty tensors under numpy 2; of all else a package may bring its own version.
    numpy = next(line for line in requirements if line.startswith("numpy=="))
    install = [str(environment.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    plan = json.loads(_run([*install, "--dry-run", "--report=-", numpy, *pip]))
    if wanted := addresses(plan):
        _run([*install, "--no-deps", f"--target={folder}", *wanted])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = done.stderr.splitlines() or ["no output"]
        reason = next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")), lines[-1])
        raise EngineError(
            f"The packages for the image cannot be had: {reason.rstrip('.')}.",
            hint="check their names and versions, the network and pip's index settings; numpy must stay at 1.26.",
        )
    return done.stdout
