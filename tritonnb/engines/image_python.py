"""Extra packages in a container: for the Python of its image, which is asked once what it is."""

from __future__ import annotations

import contextlib
import json
import os
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tritonnb.environments import ImagePython, image_overlay
from tritonnb.errors import EngineError
from tritonnb.foreign.container import Daemon, RefusalError, pieces
from tritonnb.home import home_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from docker import DockerClient

    from tritonnb.environments import Report

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # Docker's own, for an image that names none


def packages_for(client: DockerClient, url: str, image: str, pip: Sequence[str], report: Report) -> Path | None:
    """Return the folder of the packages for an image's Python, built first where it is missing; None without any.

    Parameters
    ----------
    client
        The daemon's, which has the image.
    url
        Where the daemon is.
    image
        The image's name.
    pip
        The packages.
    report
        Told how it goes.

    Raises
    ------
    EngineError
        The image has no Python that says what it is.
    EnvironmentBuildError
        A package cannot be had for it.
    """
    if not pip:
        return None
    inspected = client.api.inspect_image(image)  # type: ignore[no-untyped-call]  # (types-docker's gap)
    known = home_folder("cache") / f"image-python-{inspected['Id'].rpartition(':')[2][:24]}.json"
    if not known.exists():
        report(f"asking the Python of {image} what it is", None)
        draft = known.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(_ask(Daemon(url), image)))
        draft.replace(known)
    told = json.loads(known.read_text())
    return image_overlay(pip, ImagePython(**{**told, "site_packages": tuple(told["site_packages"])}), report)


def image_path(client: DockerClient, image: str) -> str:
    """Return the PATH of an image."""
    config = client.api.inspect_image(image).get("Config") or {}  # type: ignore[no-untyped-call]  # (types-docker's gap)
    return dict(item.partition("=")[::2] for item in config.get("Env") or ()).get("PATH") or _PATH


def _ask(daemon: Daemon, image: str) -> dict[str, Any]:
    question = files("tritonnb").joinpath("foreign", "image_python.py").read_text()
    body = {
        "Image": image,
        "Entrypoint": ["python3"],
        "Cmd": ["-I", "-c", question],
        "HostConfig": {"AutoRemove": True, "NetworkMode": "none"},
    }
    container = f"/containers/{daemon.ask('POST', '/containers/create', body)['Id']}"
    try:
        # Before its start: it is soon gone, and what it said with it.
        with contextlib.closing(daemon.stream(f"{container}/attach?stream=1&stdout=1&stderr=1", "POST")) as output:
            daemon.ask("POST", f"{container}/start")
            said = b"".join(pieces(output)).decode(errors="replace")
    except RefusalError as refused:
        said = str(refused)
    finally:
        with contextlib.suppress(RefusalError):  # it is gone
            daemon.ask("DELETE", f"{container}?force=1")
    lines = said.splitlines() or ["it says nothing"]
    if answer := next((line for line in lines if line.startswith("{")), ""):
        told: dict[str, Any] = json.loads(answer)
        return told
    raise EngineError(
        f"The image {image} has no Python that extra packages could be for: {lines[-1]}",
        hint="take an image with Triton's Python backend, or leave `environment.pip` out.",
    )
