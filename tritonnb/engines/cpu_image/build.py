"""Builds the CPU image.

It is made from the engine environment on this machine, so it needs Docker and a base image, and no network beyond
those: the same server, Python backend and packages as the embedded engine's, in the layout of NVIDIA's image.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tritonnb.engines.cpu_image.context import write_context
from tritonnb.engines.daemon import docker_client
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
    "foreign/image_setup.py",
    "foreign/onnxruntime_backend.py",
)
RELEASE = "24.10"  # of Triton, as NVIDIA's images are tagged
SERVER_VERSION = "2.51.0"
DEFAULT_TAG = f"tritonnb/tritonserver:{RELEASE}-cpu"
#: Labels of the image: the release, the server's version, what the image was made from.
RELEASE_LABEL = "tritonnb.triton.release"
VERSION_LABEL = "tritonnb.triton.version"
INPUTS_LABEL = "tritonnb.image.inputs"


@dataclass(frozen=True)
class Image:
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
) -> Image:
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
        try:
            inputs = _inputs(environment, _base_id(client, base, _part(report, 0.3, 0.4)), pip)
            if there := _find(client, tag, inputs):
                return there
            replaced = {image.id for image in client.images.list(name=tag)}
            with tempfile.TemporaryFile(dir=home_folder("cache")) as context:
                _fill(context, environment, pip, _part(report, 0.4, 0.6))
                _build(
                    client, _part(report, 0.6, 1.0), fileobj=context, tag=tag, buildargs={"BASE": base},
                    labels=_labels(base, inputs),
                )  # fmt: skip
            _remove_unnamed(client, replaced)
            built = _find(client, tag, inputs)
        except (DockerException, RequestException, OSError) as error:
            raise _build_error(str(getattr(error, "explanation", "") or error)) from error
    if built is None:
        raise EngineError(f"{tag} was built, and is another image by now.", hint="build it again.")
    report("image built", 1.0)
    return built


def _part(report: Report, start: float, end: float) -> Report:
    """Return a report whose whole is a part of ``report``'s."""
    return lambda text, done: report(text, None if done is None else start + done * (end - start))


def _inputs(environment: EngineEnvironment, base_id: str, pip: Sequence[str]) -> str:
    """Return a digest of all that decides what is in the image."""
    ours = [files("tritonnb").joinpath(*path.split("/")).read_text() for path in SOURCES]
    return _digest(base_id, environment.folder.name, *sorted(pip), *ours)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _find(client: DockerClient, tag: str, inputs: str) -> Image | None:
    """Return the image of this name where it was made from these inputs."""
    for image in client.images.list(name=tag, filters={"label": f"{INPUTS_LABEL}={inputs}"}):
        return Image(tag, str(image.id), image.attrs["Size"], RELEASE)
    return None


def _base_id(client: DockerClient, base: str, report: Report) -> str:
    from docker.errors import APIError, ImageNotFound  # noqa: PLC0415

    try:
        return str(client.images.get(base).id)
    except ImageNotFound:
        report(f"pulling {base}", None)
    try:
        for event in client.api.pull(base, stream=True, decode=True):
            if told := event.get("error"):
                raise _no_base(base, told)
    except APIError as error:
        raise _no_base(base, str(error.explanation)) from error
    return str(client.images.get(base).id)


def _no_base(base: str, told: str) -> EngineError:
    return EngineError(
        f"The base image {base} is not there and cannot be pulled: {told.rstrip('.')}.",
        hint="name another one (`--base`): one that `docker images` lists, or one that your registry has.",
    )


def _labels(base: str, inputs: str) -> dict[str, str]:
    return {
        RELEASE_LABEL: RELEASE,
        VERSION_LABEL: SERVER_VERSION,
        INPUTS_LABEL: inputs,
        "org.opencontainers.image.title": "Triton Inference Server for CPUs",
        "org.opencontainers.image.description": "tritonserver for Python and ONNX models, built by tritonnb",
        "org.opencontainers.image.version": version("tritonnb"),
        "org.opencontainers.image.base.name": base,
    }


def _fill(context: BinaryIO, environment: EngineEnvironment, pip: Sequence[str], report: Report) -> None:
    with tempfile.TemporaryDirectory(dir=home_folder("cache")) as folder:
        if pip:
            report(f"getting {', '.join(pip)}", 0.0)
            install_beside(environment, pip, Path(folder))
        write_context(context, environment, Path(folder), lambda done: report("collecting the server's files", done))
    context.seek(0)


def install_beside(environment: EngineEnvironment, pip: Sequence[str], folder: Path) -> None:
    """Install packages for the engine environment into a folder: only what it lacks, and numpy is never another.

    Raises
    ------
    EngineError
        pip cannot get them, or they do not go together with the environment's numpy.
    """
    python = [str(environment.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    numbers = [
        line
        for line in files("tritonnb").joinpath("engine-requirements.txt").read_text().splitlines()
        if line.startswith("numpy==")
    ]
    constraint = folder / "constraint.txt"
    constraint.write_text("\n".join(numbers))
    plan = _pip([*python, "--dry-run", "--quiet", "--report=-", f"--constraint={constraint}", *pip])
    constraint.unlink()
    if wanted := [entry["download_info"]["url"] for entry in json.loads(plan)["install"]]:
        _pip([*python, "--quiet", "--no-deps", f"--target={folder}", *wanted])


def _pip(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = done.stderr.splitlines() or ["no output"]
        reason = next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")), lines[-1])
        raise EngineError(
            f"The packages for the image cannot be had: {reason}",
            hint="check their names and versions, the network and pip's index settings; numpy must stay at 1.26.",
        )
    return done.stdout


def _build(client: DockerClient, report: Report, **options: Any) -> None:
    report("sending them to Docker", 0.0)
    told: list[str] = []
    events = client.api.build(custom_context=True, rm=True, forcerm=True, decode=True, **options)
    for event in events:
        if line := str(event.get("stream", "")).strip():
            told.append(line)
            if step := re.match(r"Step (\d+)/(\d+) : (.*)", line):
                report(step[3].replace("\n", " ")[:60], int(step[1]) / (int(step[2]) + 1))
        if error := event.get("error"):
            raise _build_error(str(error), told)


def _build_error(error: str, told: Sequence[str] = ()) -> EngineError:
    if "no space left" in error.lower():
        hint = "make room where Docker keeps its images (`docker system df`, `docker image prune`), then build again."
    elif "executable file not found" in error or "base image" in " ".join(told[-3:]):
        hint = "name a base image with Python and its shared libpython (`--base python:3.11-slim-bookworm`)."
    else:
        hint = "`docker info` shows whether the daemon is well; `tritonnb image build` tries again."
    return EngineError(f"The image could not be built: {error.rstrip('.')}.", hint=hint, logs="\n".join(told[-5:]))


def _remove_unnamed(client: DockerClient, images: set[str | None]) -> None:
    """Remove the images that the tag has left, but for those that something else still needs."""
    from docker.errors import APIError  # noqa: PLC0415

    for image in images:
        with contextlib.suppress(APIError):  # a container runs it, or it was built upon
            if not client.images.get(str(image)).tags:
                client.api.remove_image(str(image))
