"""What every magic is wrapped in: its parser before, its help beside, its interrupt in a line; and whom it is about."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from IPython.core.magic import needs_local_scope, no_var_expand

from tritonnb.errors import DeploymentError, Interrupted
from tritonnb.magics.options import PARSERS
from tritonnb.magics.parser import HelpShown, is_silenced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tritonnb.handle import Deployment, Served


def magic(method: Callable[..., Any]) -> Callable[..., Any]:
    """Parse the line before the method sees it, answer ``--help``, and give the method its help for ``?``."""
    parser = PARSERS[method.__name__]

    @functools.wraps(method)
    def wrapped(self: Any, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> object:
        namespace = {**self.shell.user_ns, **(local_ns or {})}
        try:
            options = parser.parse(line, namespace)
        except HelpShown:
            return None
        try:
            result = method(self, options, namespace, *([] if cell is None else [cell]))
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted(f"{parser.prog} was given up; deployments go on.") from None
        # Not IPython's `output_can_be_silenced`: it reads the line as Python, and fails where it is none.
        return None if is_silenced(line) else result

    wrapped.__doc__ = parser.format_help()
    return no_var_expand(needs_local_scope(wrapped))


def served(name: str | None) -> Served:
    """Return the deployment of this name, of this kernel or kept; without a name this kernel's latest."""
    from tritonnb.deploying import find  # noqa: PLC0415
    from tritonnb.handle import deployment  # noqa: PLC0415

    return find(name) if name else deployment()


def ours(name: str | None) -> Deployment:
    """Return the deployment as `served` does, for what a connection to somebody else's server cannot do.

    Raises
    ------
    DeploymentError
        It is a connection.
    """
    from tritonnb.handle import Deployment  # noqa: PLC0415

    found = served(name)
    if not isinstance(found, Deployment):
        raise DeploymentError(
            f"{found.name!r} is a connection: its server is run by somebody else.",
            hint="name a deployment of yours with `--on NAME`.",
        )
    return found
