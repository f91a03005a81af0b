"""pip, as the builds run it: its command, its lines as progress, and its failures in a sentence."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.errors import EnvironmentBuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.environments.building import Report

_NO_NETWORK = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError")
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
_UNMET = re.compile(r"satisfies the requirement (.+?)(?: \(from ([^:)]+)\))? \(from versions: (.*)\)")
_NAME = re.compile(r"^[\w.-]+")
_DEPENDS = re.compile(r"(?P<package>[\w.-]+)(\[.*\])? \S+ depends on (?P<on>[\w.-]+)")
# pip says it in one way for each step: its requirements and dependencies, its metadata, its wheel.
_NOT_BUILT = re.compile(
    r"^(?:ERROR: Failed to build '"
    r"|error: (?:metadata-generation-failed|failed-wheel-build-for-install)\n[^╰]*╰─> (?:from )?)"
    r"(?:file://\S*/)?([^'\n]+)",
    re.MULTILINE,
)
_SHOWN_VERSIONS = 5


@dataclass(frozen=True)
class Base:
    """What packages are to be installed beside.

    Parameters
    ----------
    name
        What it is called.
    python
        Its Python, such as ``Python 3.11 on Linux x86-64``.
    packages
        The names of its packages.
    held
        Those that must stay as they are, as pinned requirements.
    why
        Why they must.
    note
        What else there is to say where a package cannot be had.
    """

    name: str
    python: str
    packages: frozenset[str]
    held: tuple[str, ...]
    why: str
    note: str = ""


def pip_install(python: Path) -> list[str | Path]:
    """Return the beginning of a command that installs with the pip that an interpreter has."""
    return [
        python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-user",
        "--progress-bar=off", "--no-warn-script-location",
    ]  # fmt: skip


def pip_variables() -> dict[str, str]:
    """Return the environment variables for pip: the caller's index settings, and no other Python's packages."""
    elsewhere = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k not in elsewhere}


class PipProgress:
    """Turns pip's lines into progress: getting the packages is most of the way, installing them the rest.

    Parameters
    ----------
    report
        Told of it.
    count
        How many packages will come; None where nobody knows.
    """

    def __init__(self, report: Report, count: int | None = None) -> None:
        self._count = count
        self._report = report
        self._collected = 0

    def __call__(self, line: str) -> None:
        """Take a line."""
        word, _, rest = line.strip().partition(" ")
        if word in {"Collecting", "Processing"}:
            self._collected += 1
            package = Path(rest.split()[0]).name.partition("==")[0]
            self._report(f"getting {package}", self._count and 0.05 + 0.65 * self._collected / self._count)
        elif word == "Downloading" and rest.endswith(")"):  # with the size, which says how long it may take
            self._report(f"getting {Path(rest.split()[0]).name} {rest[rest.rindex('(') :]}", None)
        elif line.startswith("Building wheel"):
            self._report(f"building {line.split()[3]}", None)
        elif "Retrying" in line:
            self._report("the package index does not answer; trying again", None)
        elif line.startswith("Installing collected"):
            self._report(f"installing {self._count or line.count(',') + 1} packages", self._count and 0.75)


def addresses(plan: Mapping[str, Any]) -> list[str]:
    """Return what a dry run of pip's would install, by the report of it: each as pip takes it again."""
    return [_address(entry["download_info"]) for entry in plan["install"]]


def _address(found: Mapping[str, Any]) -> str:
    # PEP 610: a repository's URL does not name its kind.
    if repository := found.get("vcs_info"):
        return f"{repository['vcs']}+{found['url']}@{repository['commit_id']}"
    return str(found["url"])


def pip_error(lines: list[str], wanted: str, base: Base) -> EnvironmentBuildError:
    """Say which package failed and why, and the way out.

    Parameters
    ----------
    lines
        What pip said.
    wanted
        What the environment is for, such as ``nltk, spacy``.
    base
        What it is built on.
    """
    lines = [re.sub(r"file://\S*/sources/", "", line) for line in lines]  # where the build has them copied
    reason, hint = _reason("\n".join(lines), lines, base)
    return EnvironmentBuildError(f"The environment for {wanted} could not be built: {reason}", hint=hint)


def _reason(text: str, lines: list[str], base: Base) -> tuple[str, str]:
    if full := _NO_ROOM.search(text):
        return f"{full[0]}.", "make room, or set TRITONNB_HOME to a folder on another disk."
    if failed := _NOT_BUILT.search(text):
        return f"{failed[1]} could not be built from its sources: {_last_output(lines).rstrip('.')}.", (
            "most packages have wheels for some version: try another one, or build the wheel where its compiler and "
            "libraries are and name that file."
        )
    if conflict := re.search(r"The conflict is caused by:\n((?: +\S.*\n?)+)", text):
        return _conflict([line.strip() for line in conflict[1].splitlines()], base)
    if unmet := _UNMET.search(text):
        return _unmet(unmet, text, base)
    if wrong := re.search(r"^ERROR: (\S+ is not a supported wheel on this platform)", text, re.MULTILINE):
        return f"{wrong[1]}.", f"it must be for {base.python}, or for any."
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[-1:]
    return errors[-1] if errors else "pip said nothing.", "check pip's settings (`pip config list`) and try again."


def _conflict(causes: list[str], base: Base) -> tuple[str, str]:
    kept = [pinned for pinned in base.held if f"The user requested {pinned}" in causes]
    told = [f"{base.name} keeps {pinned}" for pinned in kept]
    names = {_NAME.findall(pinned)[0] for pinned in kept}
    for cause in causes:
        depends = _DEPENDS.match(cause)
        # That what is kept suits the packages of the base is no news.
        suits = depends and depends["package"] in base.packages and depends["on"] in names
        if not suits and cause.removeprefix("The user requested ") not in kept:
            told.append(cause.replace("The user requested", "wanted is"))
    return f"its packages do not go together: {'; '.join(told)}.", (
        f"{base.why}: choose versions that go with them." if kept else "loosen or change one of these versions."
    )


def _unmet(unmet: re.Match[str], text: str, base: Base) -> tuple[str, str]:
    package, parent, versions = unmet.groups()
    asked = f" ({parent} asks for it)" if parent else ""
    if versions == "none":
        if _NO_NETWORK.search(text):
            return f"no package index could be reached for {package!r}{asked}.", (
                "check the network and pip's index settings, or put the wheels into a folder and set PIP_NO_INDEX=1 "
                "and PIP_FIND_LINKS=FOLDER."
            )
        if "require a different python version" not in text:
            return f"there is no package {package!r}{asked} where pip looks.", (
                "check its name; pip looks where its settings say (PIP_INDEX_URL, PIP_NO_INDEX, PIP_FIND_LINKS)"
                f"{base.note}."
            )
    known = [version for version in versions.split(", ") if version != "none"]
    there = f"the latest are {', '.join(known[-_SHOWN_VERSIONS:])}" if known else "none fits"
    other = "; others are for another Python" if "require a different python version" in text else ""
    return (
        f"there is no {package!r}{asked} for {base.python}: {there}{other}.",
        f"choose one of the versions that exist{base.note}.",
    )


def _last_output(lines: list[str]) -> str:
    """Return the last line that a package's own build wrote."""
    ends = [at for at, line in enumerate(lines) if line.strip() == "[end of output]"]
    said = (line.strip(" │") for line in reversed(lines[: ends[-1]] if ends else lines))
    return next((line for line in said if line), "it said nothing")
