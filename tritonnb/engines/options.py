"""tritonserver's options, as every engine that starts one gives them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tritonnb.errors import PortInUseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.spec import Spec

HOST = "127.0.0.1"
#: Triton's API groups that change or reveal the server itself: they always need the deployment's key.
ADMINISTRATIVE = ("model-repository", "shared-memory", "trace", "logging")
#: The other groups: they need the key where ``auth`` is on.
PUBLIC = ("health", "metadata", "inference", "model-config", "statistics")


def options(spec: Spec, key: str, repository: str, region_prefix: str, own: Mapping[str, str]) -> list[str]:
    """Return the command line of a server, without its program.

    Parameters
    ----------
    spec
        What is served; its ``server.flags`` replace ours. A flag that takes no value is given an empty text.
    key
        The deployment's bearer key.
    repository
        The model repository, as the server sees it.
    region_prefix
        How the names of the Python backend's shared-memory regions begin.
    own
        The engine's own options.
    """
    guarded = ",".join(ADMINISTRATIVE + (PUBLIC if spec.auth else ()))
    ours = {
        "model-repository": repository,
        # Models are loaded by request: a bad one then answers with its own reason and takes no other down.
        "model-control-mode": "explicit",
        "exit-on-error": "false",
        "strict-readiness": "false",
        "http-restricted-api": f"{guarded}:Authorization=Bearer {key}",
        "grpc-restricted-protocol": f"{guarded}:authorization=Bearer {key}",
        "backend-config": f"python,shm-region-prefix-name={region_prefix}",
        **own,
    }
    given = {name: value if isinstance(value, tuple) else (value,) for name, value in spec.server.flags.items()}
    merged = {name: (value,) for name, value in ours.items()} | given
    # Triton takes this one several times; of any other the user's own value replaces ours.
    merged["backend-config"] = (ours["backend-config"], *given.get("backend-config", ()))
    return [f"--{name}={value}".removesuffix("=") for name, values in merged.items() for value in values]


def free_ports(asked: tuple[int | None, ...]) -> list[int]:
    """Return the ports to use: the asked ones, checked to be free, and free ones for the rest.

    Raises
    ------
    PortInUseError
        A port that was asked for is taken.
    """
    held, ports = [], []
    try:
        for port in asked:
            listener = socket.socket()
            held.append(listener)
            # As tritonserver binds: a port that a closed connection still holds is not taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port or 0))
            except OSError as error:
                raise PortInUseError(
                    f"Port {port} of {HOST} is taken or not allowed: {error.strerror}.",
                    hint="choose another port, or leave it out for a free one.",
                ) from error
            ports.append(listener.getsockname()[1])
    finally:
        for listener in held:
            listener.close()
    return ports
