"""What may stand in ``environment.pip``: pip's own words for a package, each checked before pip is asked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

_URL = re.compile(r"((git|hg|svn|bzr)\+)?\w[\w+.-]*://\S+")
_FILE = re.compile(r"^[.~]?/|^\.\.?$|^\.\./|\.(whl|zip|tar\.\w+|tgz)(\[[^]]*\])?$|^[\w.-]+/")
_NAMED_URL = re.compile(r"[\w.,\s\[\]-]+@\s*\w[\w+.-]*://")
_EXTRAS = re.compile(r"\[[\w.,\s-]*\]$")


def requirements(pip: Iterable[str], base: Path | None = None) -> tuple[str, ...]:
    """Return requirements in one form: absolute paths, names in pip's canonical spelling, files read, none twice.

    Parameters
    ----------
    pip
        Each a requirement as ``pip install`` takes it (``nltk``, ``nltk==3.9.1``, ``spacy[lookups]>=3``, a URL, the
        path of a wheel or of a project's folder), or ``-r FILE``, which stands for that file's lines.
    base
        The folder that relative paths start from; the current one where it is None.

    Raises
    ------
    SpecError
        One is empty, malformed, or an option of pip.
    """
    found: list[str] = []
    for entry in pip:
        found += _requirements(entry.strip(), (base or Path.cwd()).absolute(), ())
    return tuple(dict.fromkeys(found))


def _requirements(entry: str, base: Path, reading: tuple[Path, ...]) -> list[str]:
    if named := re.match(r"(-r|--requirement)([=\s]+|(?=[^-\s]))(?P<file>\S.*)$", entry):
        return _lines(_absolute(named["file"], base), reading)
    if not entry:
        raise SpecError("a requirement is empty: write a package, such as nltk")
    if entry.startswith("-"):
        raise SpecError(
            f"{entry!r} is an option of pip, and only -r FILE can be given here: name packages, and set the others "
            "in the notebook's own environment, such as `%env PIP_INDEX_URL=...`, PIP_FIND_LINKS or PIP_CONSTRAINT"
        )
    if _URL.fullmatch(entry):
        return [entry]
    if _FILE.search(entry) and not _NAMED_URL.match(entry):
        return [str(_absolute(entry, base))]
    return [_by_name(entry)]


def _by_name(entry: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  (few specs name packages)
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    try:
        requirement = Requirement(entry)
    except InvalidRequirement:
        nearest = re.sub(r"^([\w.-]+)\s*=\s*(\d[\w.]*)$", r"\1==\2", entry)
        guess = f"did you mean {nearest!r}?" if nearest != entry else "write it like nltk, nltk==3.9.1 or nltk>=3.8,<4"
        raise SpecError(f"{entry!r} is no requirement of pip's; {guess}") from None
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def _lines(file: Path, reading: tuple[Path, ...]) -> list[str]:
    """Return the requirements of a requirements file, and of those that it names."""
    if file in reading:
        raise SpecError(f"the requirements file {file} names itself")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SpecError(f"the requirements file {file} cannot be read: {reason}") from None
    found: list[str] = []
    # pip's own rules: a backslash joins lines, a # begins a comment at a line's start or after a space.
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if content := re.sub(r"(^|\s)#.*$", "", line).strip():
            if " --hash" in content:
                raise SpecError(f"{file}: hashes cannot be checked here; name the packages without --hash")
            try:
                found += _requirements(content, file.parent, (*reading, file))
            except SpecError as error:
                raise SpecError(f"{file}: {error.message}") from None
    return found


def _absolute(path: str, base: Path) -> Path:
    return Path(os.path.abspath(base / Path(path).expanduser()))  # noqa: PTH100  (resolve() would follow the user's links)


def local_source(requirement: str) -> Path | None:
    """Return the file or folder that a requirement in this module's form names; None where it names none."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415

    if requirement.startswith("/"):
        path = Path(requirement)
        return path if path.exists() else Path(_EXTRAS.sub("", requirement))
    url = re.sub(r"^[^@:]*@ ", "", requirement)
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
