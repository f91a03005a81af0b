"""tritonnb's home: the folder where engines, deployments and caches live on disk.

``TRITONNB_HOME`` names it; else it is the platform's folder for user data (``~/.local/share/tritonnb`` on Linux)::

    engines/<key>/          one built engine environment each (environments/)
    overlays/<key>/         one set of extra packages each, on an engine or for an image's Python (environments/)
    deployments/<id>/       one running deployment each: staged repository, backends, log
    score/<id>/             the tier of an entry script each (score/)
    registry/               the registered models (registry/)
    cache/                  what can be made again (sample models)
"""

from __future__ import annotations

import os
from pathlib import Path

from tritonnb.errors import HomeError


def home() -> Path:
    """Return tritonnb's home, without making it."""
    named = os.environ.get("TRITONNB_HOME")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs  # noqa: PLC0415  (only where the variable is not set)

    return Path(platformdirs.user_data_dir("tritonnb", appauthor=False))


def home_folder(*parts: str) -> Path:
    """Return a folder of tritonnb's home, made where it is missing.

    Parameters
    ----------
    parts
        The folder's path below the home, such as ``"engines"``.

    Raises
    ------
    HomeError
        The folder cannot be made or written.
    """
    folder = home().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(folder, "no permission to write there")
    return folder


def _unusable(folder: Path, reason: str) -> HomeError:
    return HomeError(
        f"tritonnb's folder {folder} cannot be used: {reason}.",
        hint="set the environment variable TRITONNB_HOME to a folder that you can write.",
    )
