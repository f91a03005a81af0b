"""Builds the CPU image.

It is made from the engine environment on this machine, so it needs Docker and a base image, and no network beyond
those: the same server, Python backend and packages as the embedded engine's, in the layout of NVIDIA's image.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tritonnb.engines.cpu_image.context import write_context
from tritonnb.engines.cpu_image.packages import install_beside
from tritonnb.engines.daemon import docker_client
from tritonnb.engines.images import RELEASE_LABEL, pull
from tritonnb.environments import engine_environment
from tritonnb.errors import EngineError
from tritonnb.home import home_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker import DockerClient

    from tritonnb.environments import EngineEnvironment, Report

#: What of this package decides on the image, besides the engine environment.
SOURCES = (
    "engines/cpu_image/Dockerfile",
    "engines/cpu_image/context.py",
    "engines/cpu_image/packages.py",
    "foreign/image_setup.py",
    "foreign/onnxruntime_backend.py",
)
RELEASE = "24.10"  # of Triton, as NVIDIA's images are tagged
SERVER_VERSION = "2.51.0"
DEFAULT_TAG = f"tritonnb/tritonserver:{RELEASE}-cpu"
#: Labels of the image, beside that of the release: the server's version, what the image was made from.
VERSION_LABEL = "tritonnb.triton.version"
INPUTS_LABEL = "tritonnb.image.inputs"
BASE_NAME_LABEL = "org.opencontainers.image.base.name"
BASE_DIGEST_LABEL = "org.opencontainers.image.base.digest"


@dataclass(frozen=True)
class BuiltImage:
    """A built image.

    Parameters
    ----------
    tag
        Its name.
    id
        Its identity in the daemon, ``sha256:...``.
    size
        Its size in bytes, the base included.
    release
        The release of Triton in it, such as ``24.10``.
    """

    tag: str
    id: str
    size: int
    release: str


def build_image(
    tag: str | None = None, *, base: str | None = None, pip: Sequence[str] = (), report: Report | None = None
) -> BuiltImage:
    """Build the CPU image, or return it where one of the same inputs is already there under its tag.

    Parameters
    ----------
    tag
        The image's name; None for ``tritonnb/tritonserver:24.10-cpu``, with a suffix where ``pip`` adds packages.
    base
        The image to build on: Debian 12, Ubuntu 22.04 or their successors with the engine environment's release series
        of Python and its shared libpython. None for Python's own slim image. Pulled where the daemon lacks it.
    pip
        Further Python packages, in pip's words. They are fetched on this machine.
    report
        Told how the build goes.

    Raises
    ------
    EngineError
        No daemon answers, the base image cannot be had or does not fit, a package cannot be had, or no room is left.
    """
    from docker.errors import DockerException  # noqa: PLC0415  (heavy, and only this engine's)
    from requests.exceptions import RequestException  # noqa: PLC0415

    report = report or (lambda _text, _fraction: None)
    tag = tag or DEFAULT_TAG + (f"-{_digest(*sorted(pip))[:8]}" if pip else "")
    with docker_client() as client:
        environment = engine_environment(_part(report, 0.0, 0.3))
        base = base or f"python:{environment.interpreter.minor}-slim-bookworm"
        inputs = _inputs(environment, base, pip)
        try:
            if there := _find(client, tag, inputs):
                return there
            _get_base(client, base, _part(report, 0.3, 0.35))
            replaced = {str(image.id) for image in client.images.list(name=tag)}
            with tempfile.TemporaryFile(dir=home_folder("cache")) as context:
                _fill(context, environment, pip, _part(report, 0.35, 0.5))
                labels = _labels(base, str(client.images.get(base).id), inputs)
                _build(client, context, _part(report, 0.5, 1.0), tag=tag, buildargs={"BASE": base}, labels=labels)
            _remove_unnamed(client, replaced)
            built = _find(client, tag, inputs)
        except (DockerException, RequestException, OSError) as error:
            raise _build_error(str(getattr(error, "explanation", "") or error)) from error
    if built is None:
        raise EngineError(f"{tag} was built, and names another image by now.", hint="build it again.")
    report("image built", 1.0)
    return built


def _part(report: Report, start: float, end: float) -> Report:
    """Return a report whose whole is a part of ``report``'s."""
    return lambda text, done: report(text, None if done is None else start + done * (end - start))


def _inputs(environment: EngineEnvironment, base: str, pip: Sequence[str]) -> str:
    """Return a digest of all that decides on what is in the image, but for what the base is at the moment."""
    ours = [files("tritonnb").joinpath(*path.split("/")).read_text() for path in SOURCES]
    return _digest(environment.folder.name, base, *sorted(pip), *ours)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _find(client: DockerClient, tag: str, inputs: str) -> BuiltImage | None:
    """Return the image of this name where it was made of these inputs, on the base as the daemon has it now."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    for image in client.images.list(name=tag, filters={"label": f"{INPUTS_LABEL}={inputs}"}):
        with contextlib.suppress(ImageNotFound):  # a base that was removed since has not changed
            if client.images.get(image.labels[BASE_NAME_LABEL]).id != image.labels[BASE_DIGEST_LABEL]:
                continue
        return BuiltImage(tag, str(image.id), image.attrs["Size"], RELEASE)
    return None


def _get_base(client: DockerClient, base: str, report: Report) -> None:
    from docker.errors import ImageNotFound  # noqa: PLC0415

    with contextlib.suppress(ImageNotFound):
        client.images.get(base)
        return
    try:
        pull(client, base, report)
    except EngineError as error:
        raise EngineError(
            f"The base image {base} is not there. {error.message}",
            hint="name one that `docker images` lists or that your registry has (`--base`), or load one with "
            "`docker load`.",
        ) from error


def _labels(base: str, base_id: str, inputs: str) -> dict[str, str]:
    return {
        RELEASE_LABEL: RELEASE,
        VERSION_LABEL: SERVER_VERSION,
        INPUTS_LABEL: inputs,
        BASE_NAME_LABEL: base,
        BASE_DIGEST_LABEL: base_id,
        "org.opencontainers.image.title": "Triton Inference Server for CPUs",
        "org.opencontainers.image.description": "tritonserver for Python and ONNX models, built by tritonnb",
        "org.opencontainers.image.version": version("tritonnb"),
    }


def _fill(context: BinaryIO, environment: EngineEnvironment, pip: Sequence[str], report: Report) -> None:
    with tempfile.TemporaryDirectory(dir=home_folder("cache")) as extra:
        if pip:
            report(f"getting {', '.join(pip)}", 0.0)
            install_beside(environment, pip, Path(extra))
        write_context(context, environment, Path(extra), lambda done: report("collecting the server's files", done))
    context.seek(0)


def _build(client: DockerClient, context: BinaryIO, report: Report, **options: Any) -> None:
    report("sending them to Docker", 0.0)
    told: list[str] = []
    events = client.api.build(fileobj=context, custom_context=True, rm=True, forcerm=True, decode=True, **options)
    for event in events:
        # What a step writes to its error output comes in red.
        if line := re.sub(r"\x1b\[\d*m", "", str(event.get("stream", ""))).strip():
            told.append(line)
            if step := re.match(r"Step (\d+)/(\d+) :", line):
                report(f"building, step {step[1]} of {step[2]}", int(step[1]) / (int(step[2]) + 1))
        if error := event.get("error"):
            raise _build_error(str(error), told)


def _build_error(error: str, told: Sequence[str] = ()) -> EngineError:
    if reason := next((line for line in told if line.startswith("The base image ")), ""):  # image_setup.py's
        error = reason
    if "no space left" in error.lower():
        hint = (
            "make room where Docker keeps its images (`docker system df`, `docker image prune`) or in tritonnb's home."
        )
    elif reason or re.search(r'"?python3"?: executable file not found', error):
        hint = "name a base image with Python and its shared libpython (`--base python:3.11-slim-bookworm`)."
    else:
        hint = "`docker info` shows whether the daemon is well; `tritonnb image build` tries again."
    return EngineError(f"The image could not be built: {error.rstrip('.')}.", hint=hint)


def _remove_unnamed(client: DockerClient, images: set[str]) -> None:
    """Remove the images that the tag has left, but for those that something else still needs."""
    from docker.errors import APIError  # noqa: PLC0415

    for image in images:
        with contextlib.suppress(APIError):  # a container runs it, or it was built upon
            if not client.images.get(image).tags:
                client.api.remove_image(image)
