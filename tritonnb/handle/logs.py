"""The logs of a deployment side by side: tritonserver's and, where there is an entry script, its tier's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# As `tail -f` tells several files apart.
SERVER, SCRIPT = "==> tritonserver <==", "==> entry script <=="


def both_logs(server: str, script: str, lines: int) -> str:
    """Return the last lines of each log; with headings where there are two.

    Parameters
    ----------
    server, script
        The logs.
    lines
        How many of each.
    """
    server, script = ("\n".join(log.splitlines()[-lines:]) for log in (server, script))
    return f"{SERVER}\n{server}\n\n{SCRIPT}\n{script}" if script else server


class FollowedLogs:
    """Two logs as they grow, a heading wherever it goes on with the other one.

    Parameters
    ----------
    server, script
        Return the logs so far.
    """

    def __init__(self, server: Callable[[], str], script: Callable[[], str]) -> None:
        self._logs = {SERVER: server, SCRIPT: script}
        self._shown = dict.fromkeys(self._logs, 0)
        self._latest = SERVER  # without a script there is no heading

    def more(self, lines: int | None = None) -> str:
        """Return what came since the last call; of that at most the last lines of each log."""
        text = ""
        for heading, read in self._logs.items():
            log = read()
            new = log[self._shown[heading] :]
            self._shown[heading] = len(log)
            if not new:
                continue
            if heading != self._latest:
                text += f"\n{heading}\n"
                self._latest = heading
            text += new if lines is None else "".join(new.splitlines(keepends=True)[-lines:])
        return text
