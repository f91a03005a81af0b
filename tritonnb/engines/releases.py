"""Triton's releases: which server version each holds, and which flags its tritonserver knows.

An unknown flag makes tritonserver end at once, so flags follow the release. Read from ``src/command_line_parser.cc``
and ``TRITON_VERSION`` of the server repository's branches r24.01 to r26.08; 24.10 agrees with its ``--help``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonnb.errors import SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Year and month, as in an image's tag.
Release = tuple[int, int]

#: Known to every release since 24.01.
_FLAGS = frozenset(
    """
    allow-cpu-metrics allow-gpu-metrics allow-grpc allow-http allow-metrics allow-sagemaker allow-vertex-ai
    backend-config backend-directory buffer-manager-thread-count cache-config cache-directory
    cuda-memory-pool-byte-size cuda-virtual-address-size disable-auto-complete-config exit-on-error exit-timeout-secs
    grpc-address grpc-header-forward-pattern grpc-http2-max-ping-strikes grpc-http2-max-pings-without-data
    grpc-http2-min-recv-ping-interval-without-data grpc-infer-allocation-pool-size
    grpc-infer-response-compression-level grpc-keepalive-permit-without-calls grpc-keepalive-time
    grpc-keepalive-timeout grpc-max-connection-age grpc-max-connection-age-grace grpc-port grpc-restricted-protocol
    grpc-root-cert grpc-server-cert grpc-server-key grpc-use-ssl grpc-use-ssl-mutual help host-policy http-address
    http-header-forward-pattern http-port http-restricted-api http-thread-count id load-model log-error log-file
    log-format log-info log-verbose log-warning metrics-address metrics-config metrics-interval-ms metrics-port
    min-supported-compute-capability model-control-mode model-load-gpu-limit model-load-retry-count
    model-load-thread-count model-namespacing model-repository model-store pinned-memory-pool-byte-size rate-limit
    rate-limit-resource repoagent-directory repository-poll-secs response-cache-byte-size reuse-grpc-port
    reuse-http-port sagemaker-port sagemaker-safe-port-range sagemaker-thread-count strict-model-config
    strict-readiness trace-config trace-count trace-file trace-level trace-log-frequency trace-rate
    vertex-ai-default-model vertex-ai-port vertex-ai-thread-count
    """.split()  # noqa: SIM905  (a list of 85 quoted words reads worse)
)

#: Known from a release on.
_ADDED: dict[str, Release] = {
    "model-config-name": (24, 5),
    "enable-peer-access": (24, 6),
    "grpc-max-response-pool-size": (25, 3),
    "grpc-infer-thread-count": (25, 4),
    "http-max-input-size": (25, 6),
    "allow-client-shm": (26, 4),
}

#: Server versions by month: 25.07 brought 2.59.1, so the minor number lags behind by one from then on.
_FIRST, _FIRST_MINOR = (24, 1), 42
_PATCHED = (25, 7)


def release_of_version(version: str) -> Release | None:
    """Return the release that holds a server version such as ``2.51.0``, or None where that is not known."""
    found = re.match(r"2\.(\d+)\.(\d+)", version)
    if not found:
        return None
    if found[0] == "2.59.1":
        return _PATCHED
    months = int(found[1]) - _FIRST_MINOR
    if months < 0:
        return None
    year, month = divmod(months + (_month(_FIRST) + months >= _month(_PATCHED)) + _FIRST[1] - 1, 12)
    return _FIRST[0] + year, month + 1


def release_in(text: str) -> Release | None:
    """Return the release that a text such as ``24.10`` or a tag such as ``26.07-py3`` names, or None."""
    found = re.match(r"(2\d)\.(0[1-9]|1[0-2])(?!\d)", text)
    return (int(found[1]), int(found[2])) if found else None


def knows(release: Release | None, flag: str) -> bool:
    """Tell whether tritonserver of a release takes a flag; of one unknown only what all have taken."""
    return flag in _FLAGS or (flag in _ADDED and release is not None and release >= _ADDED[flag])


def check_flags(flags: Iterable[str], release: Release | None) -> None:
    """Check a user's flags, without their dashes, before a server is started with them.

    Parameters
    ----------
    flags
        Names such as ``log-verbose``.
    release
        That of the server; where it is not known, every flag of any release passes.

    Raises
    ------
    SpecError
        The release has no such flag; names the nearest, or the release that brought it.
    """
    for flag in flags:
        if knows(release or max(_ADDED.values()), flag):
            continue
        if release is None:
            raise SpecError(f"tritonserver has no flag {flag!r}.", hint=nearest(flag, _FLAGS | set(_ADDED)))
        of = f"tritonserver of release {shown(release)} has no flag {flag!r}"
        if flag in _ADDED:
            raise SpecError(f"{of}: it came with {shown(_ADDED[flag])}.", hint="take a newer image (`server.image`).")
        raise SpecError(f"{of}.", hint=nearest(flag, (name for name in _FLAGS | set(_ADDED) if knows(release, name))))


def shown(release: Release) -> str:
    """Return a release as NVIDIA writes it: ``24.10``."""
    return f"{release[0]}.{release[1]:02}"


def _month(release: Release) -> int:
    return release[0] * 12 + release[1]
