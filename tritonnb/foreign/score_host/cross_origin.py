"""Calls from web pages of other origins (CORS)."""

from __future__ import annotations


class CrossOrigin:
    """Which pages may call, and what their browsers are told.

    Parameters
    ----------
    origins
        Such as ``https://example.org``; ``*`` for all of them.
    """

    def __init__(self, origins: list[str]) -> None:
        self._origins = {origin.strip().lower().encode() for origin in origins}

    def is_preflight(self, method: str, headers: dict[bytes, bytes]) -> bool:
        """Tell whether a browser asks before it calls; it sends no key with that."""
        return bool(self._origins) and method == "OPTIONS" and b"access-control-request-method" in headers

    def headers(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return what an answer tells the browser."""
        if not self._origins:
            return []
        origin = headers.get(b"origin")
        if b"*" in self._origins:
            allowed = [(b"access-control-allow-origin", b"*")]
        elif origin is not None and origin.lower() in self._origins:
            allowed = [(b"access-control-allow-origin", origin)]
        else:
            return []
        if b"access-control-request-method" in headers and origin is not None:
            allowed.append((b"access-control-allow-methods", b"GET, POST"))
            if wanted := headers.get(b"access-control-request-headers"):
                allowed.append((b"access-control-allow-headers", wanted))
        if len(self._origins) > 1:
            allowed.append((b"vary", b"Origin"))
        return allowed
