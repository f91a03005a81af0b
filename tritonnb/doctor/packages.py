"""The Python packages beside tritonnb, held against what its own metadata asks for."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

from tritonnb.doctor.report import PACKAGES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHOWN = ("tritonnb", "ipykernel", "ipywidgets", "tritonclient")


def python_packages() -> Finding:
    """Say whether the installed packages are of versions that tritonnb works with."""
    # Where a package is installed twice, the first one found is the one that is imported.
    found_first = reversed(list(metadata.distributions()))
    installed = {_normal(package.name): package.version for package in found_first}
    if "tritonnb" not in installed:
        mend = "install tritonnb with pip, so that what it asks for is known."
        return Finding(PACKAGES, "unknown", "tritonnb is used without being installed", mend)
    wrong = unmet(metadata.requires("tritonnb") or (), installed)
    if wrong:
        found = f"not as tritonnb asks for: {', '.join(wrong)}"
        seen = ", ".join(f"{name} {installed.get(_normal(name), 'missing')}" for name in wrong)
        wanted = " ".join(f"'{name}{bounds}'" for name, bounds in wrong.items())
        return Finding(PACKAGES, "broken", found, f"run `pip install --upgrade {wanted}`.", seen)
    versions = ", ".join(f"{name} {installed[name]}" for name in SHOWN if name in installed)
    return Finding(PACKAGES, "ok", "as tritonnb asks for", detail=versions)


def unmet(requirements: Iterable[str], installed: Mapping[str, str]) -> dict[str, str]:
    """Return the requirements that the installed packages do not meet: version bounds by name.

    Parameters
    ----------
    requirements
        ``Requires-Dist`` lines. Of their bounds ``>=`` and ``!=`` are read, the two that tritonnb uses. Those of the
        extra ``lab`` (the notebook's own packages) count where the package is there; those of other extras never do.
    installed
        Versions by normalised name.
    """
    wrong = {}
    for requirement in requirements:
        specifier, _, marker = (part.strip() for part in requirement.partition(";"))
        name, bounds = re.findall(r"^([\w.-]+)(?:\[.*?\])?\s*(.*)$", specifier)[0]
        version = installed.get(_normal(name))
        if marker and not (version and re.fullmatch(r"""extra == ['"]lab['"]""", marker)):
            continue
        limits = [(sign, _numbers(limit)) for sign, limit in re.findall(r"(>=|!=)\s*([\w.]+)", bounds)]
        if not version or not all(
            _numbers(version) >= limit if sign == ">=" else _numbers(version) != limit for sign, limit in limits
        ):
            wrong[name] = bounds
    return wrong


def _normal(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
