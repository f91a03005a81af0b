"""What the doctor found, as plain values that read well in a terminal and in a notebook."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass

from tritonnb.render.html import table

INTERPRETER = "Python for the engine"
ENGINE = "engine environment"
SHARED_MEMORY = "shared memory"
HOME = "tritonnb's home"
PACKAGES = "Python packages"
PORTS = "Triton's usual ports"
DOCKER = "Docker daemon"
IMAGES = "Triton images"
GPU = "GPU and driver"
TOOLKIT = "NVIDIA container toolkit"

#: What the embedded engine cannot do without; the rest serves Docker, a GPU or a habit.
NEEDED = (INTERPRETER, ENGINE, SHARED_MEMORY, HOME, PACKAGES)

WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    subject
        What was looked at.
    state
        ``ok``, ``missing``, ``broken`` (it is there and does not work) or ``unknown`` (it could not be looked at).
    found
        What was seen, in words that are the same on every machine of this state.
    mend
        What to do about it, in one sentence; empty where there is nothing to do.
    detail
        The rest of what was seen: paths, sizes, versions, process numbers.
    """

    subject: str
    state: str
    found: str
    mend: str = ""
    detail: str = ""

    @property
    def shown(self) -> str:
        """What was seen; with ``TRITONNB_STABLE_OUTPUT=1`` without the detail, so that notebooks under test agree."""
        # The variable is read when something is shown, so that a notebook can set it for itself.
        stable = os.environ.get("TRITONNB_STABLE_OUTPUT") == "1"
        return self.found if stable or not self.detail else f"{self.found}: {self.detail}"


@dataclass(frozen=True, repr=False)
class Report:
    """All that was found, as a table in a terminal and in a notebook.

    Parameters
    ----------
    findings
        One for each subject, what the embedded engine needs first.
    """

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether the embedded engine can serve here and now: all that it needs is ``ok``."""
        return not self._lacks()

    def _lacks(self) -> list[str]:
        return [finding.subject for finding in self.findings if finding.subject in NEEDED and finding.state != "ok"]

    def _title(self) -> str:
        if self.healthy:
            return "tritonnb doctor: the embedded engine can serve here"
        return f"tritonnb doctor: the embedded engine cannot serve yet ({', '.join(self._lacks())})"

    def __repr__(self) -> str:
        widest = max((len(finding.subject) for finding in self.findings), default=0)
        lines = [self._title()]
        for finding in self.findings:
            labels = f"  {finding.subject.ljust(widest)}  {finding.state.ljust(len('missing'))}  "
            cell = _wrapped(finding.shown, WIDTH - len(labels))
            if finding.mend:
                cell += _wrapped(f"To mend: {finding.mend}", WIDTH - len(labels))
            lines.append(labels + cell[0])
            lines += [" " * len(labels) + line for line in cell[1:]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [(finding.subject, finding.state, finding.shown, finding.mend) for finding in self.findings]
        return table(self._title(), ("Subject", "State", "Found", "How to mend it"), rows)


def _wrapped(text: str, width: int) -> list[str]:
    # Paths stay whole, so that they can be copied.
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def megabytes(size: int) -> str:
    """Return a size in bytes as people read it."""
    return f"{size // 2**20:,} MB"
