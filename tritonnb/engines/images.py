"""Triton's images: which one to run, getting it, and the release that it holds."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonnb.engines.releases import Release, release_in, release_of_version
from tritonnb.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient

    from tritonnb.environments import Report

#: NVIDIA's image of a recent release, pinned so that a notebook serves the same tomorrow.
DEFAULT = "nvcr.io/nvidia/tritonserver:26.07-py3"
NVIDIA = "nvcr.io/nvidia/tritonserver"
#: What our own images say of themselves.
RELEASE_LABEL = "tritonnb.triton.release"
PULL_TRIES = 3
_EXTRACTING_FROM = 0.7  # of a layer's work: unpacking goes on where downloading ends
_CUT_OFF = re.compile(r"unexpected EOF|connection reset|broken pipe|TLS handshake timeout|i/o timeout", re.IGNORECASE)
#: NVIDIA's tags that hold no server.
_NO_SERVER = re.compile(r":.*-(sdk|min)$")


@dataclass(frozen=True)
class Image:
    """An image that the daemon has.

    Parameters
    ----------
    name
        What it is called.
    release
        The release of Triton in it; None where it does not say.
    """

    name: str
    release: Release | None


def local_image(client: DockerClient, named: str | None) -> Image | None:
    """Return the image to run, where the daemon has it already.

    Parameters
    ----------
    client
        The daemon's.
    named
        The one that the spec names. Without one it is `DEFAULT`, or else the newest image of Triton that is there:
        rather that than a download of 10 GB.
    """
    from docker.errors import ImageNotFound  # noqa: PLC0415  (only where there is a daemon)

    try:
        return Image(named or DEFAULT, _release(client, named or DEFAULT))
    except ImageNotFound:
        if named:
            return None
    tags = [
        tag
        for summary in client.api.images()
        for tag in summary.get("RepoTags") or ()
        if RELEASE_LABEL in (summary.get("Labels") or {})
        or (tag.startswith(f"{NVIDIA}:") and not _NO_SERVER.search(tag))
    ]
    found = [Image(tag, _release(client, tag)) for tag in tags]
    return max(found, key=lambda image: (image.release or (0, 0), image.name), default=None)


def _release(client: DockerClient, name: str) -> Release | None:
    config = client.api.inspect_image(name).get("Config") or {}  # type: ignore[no-untyped-call]  # (types-docker's gap)
    variables = dict(item.partition("=")[::2] for item in config.get("Env") or ())
    return (
        release_in((config.get("Labels") or {}).get(RELEASE_LABEL, ""))
        or release_in(variables.get("NVIDIA_TRITON_SERVER_VERSION", ""))
        or release_of_version(variables.get("TRITON_SERVER_VERSION", ""))
        or release_in(name.rpartition(":")[2])
    )


def pull(client: DockerClient, name: str, report: Report) -> Image:
    """Pull an image, with one progress over all its layers; a pull that is cut off is taken up again.

    Ctrl-C breaks it off; the daemon keeps the layers that are whole.

    Parameters
    ----------
    client
        The daemon's.
    name
        The image.
    report
        Told how far it is.

    Raises
    ------
    EngineError
        There is no such image, or its registry cannot be reached, wants a login, or sends what is damaged.
    """
    text = f"pulling {name}"
    if name.startswith(f"{NVIDIA}:"):
        text += f" (9 to 16 GB{_room(client)}; Ctrl-C stops it, `tritonnb image build` makes a small one for CPUs)"
    report(text, 0.0)
    for attempt in range(PULL_TRIES):
        refusal = _pull_once(client, name, text, report)
        if not refusal:
            return Image(name, _release(client, name))
        if attempt + 1 == PULL_TRIES or not _CUT_OFF.search(refusal):
            break
        report(f"pulling {name} was cut off ({refusal}); once more", None)
    raise _pull_error(name, refusal)


def _room(client: DockerClient) -> str:
    """Return how much room there is for images, where that can be seen from here."""
    try:
        return f", {shutil.disk_usage(client.info()['DockerRootDir']).free / 1e9:.0f} GB free"
    except (OSError, KeyError):  # another machine's path: Docker Desktop, a notebook in a container
        return ""


def _pull_once(client: DockerClient, name: str, text: str, report: Report) -> str:
    """Pull, and return why that failed, or an empty text."""
    from docker.errors import APIError  # noqa: PLC0415
    from docker.utils import parse_repository_tag  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415  (comes with docker)

    repository, tag = parse_repository_tag(name)
    layers = Layers()
    try:
        # The high-level pull drops the stream.
        with closing(client.api.pull(repository, tag=tag or "latest", stream=True, decode=True)) as events:
            for event in events:
                if error := event.get("error"):
                    return str(error)
                layers.take(event)
                report(f"{text}: {layers}", layers.fraction)
    except APIError as error:
        return str(error.explanation or error)
    except RequestException as error:
        return str(error)
    return ""


class Layers:
    """The layers of an image that is being pulled, added up."""

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}
        self._bytes: dict[str, tuple[int, int]] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the daemon's stream."""
        layer, status = event.get("id", ""), event.get("status", "")
        detail = event.get("progressDetail") or {}
        current, total = detail.get("current") or 0, detail.get("total") or 0
        if status in {"Pulling fs layer", "Waiting"}:
            self._shares.setdefault(layer, 0.0)
        elif status == "Downloading" and total:
            self._shares[layer] = _EXTRACTING_FROM * current / total
            self._bytes[layer] = (current, total)
        elif status in {"Verifying Checksum", "Download complete"}:
            self._shares[layer] = _EXTRACTING_FROM
            self._bytes[layer] = (self._bytes.get(layer, (0, 0))[1],) * 2
        elif status == "Extracting" and total:
            self._shares[layer] = _EXTRACTING_FROM + (1 - _EXTRACTING_FROM) * current / total
        elif status in {"Pull complete", "Already exists"}:
            self._shares[layer] = 1.0

    @property
    def fraction(self) -> float | None:
        """How much of the pull is done, 0 to 1; None while no layer is known."""
        return sum(self._shares.values()) / len(self._shares) if self._shares else None

    def __str__(self) -> str:
        done = sum(share == 1 for share in self._shares.values())
        # The daemon tells a layer's size only when its download begins.
        current, total = (sum(sizes[i] for sizes in self._bytes.values()) // 10**6 for i in (0, 1))
        return f"{done} of {len(self._shares)} layers, {current} of {total} MB so far"


def _pull_error(name: str, refusal: str) -> EngineError:
    message = f"The image {name} could not be pulled: {refusal.strip().rstrip('.')}."
    registry = name.partition("/")[0] if "." in name.partition("/")[0] or ":" in name.partition("/")[0] else ""
    if re.search(r"manifest unknown|not found|does not exist", refusal):
        return EngineError(message, hint="check its name and tag (`server.image`); NVIDIA's are YY.MM-py3.")
    if re.search(r"unauthorized|denied|authentication required", refusal, re.IGNORECASE):
        return EngineError(message, hint=f"log in with `docker login {registry}`".rstrip() + ", or check its name.")
    if "no space left" in refusal:
        return EngineError(message, hint="make room where Docker keeps its images (`docker system df`).")
    if re.search(r"no such host|refused|timeout|unreachable|EOF|deadline|reset", refusal):
        hint = "the registry cannot be reached: check the network and Docker's proxy settings, and try again."
        return EngineError(message, hint=hint)
    return EngineError(message, hint="try `docker pull` by hand; `server.image` takes another image.")
