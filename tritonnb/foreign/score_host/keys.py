"""The bearer keys of a tier."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Keys:
    """The keys in a file, read again when it is another one, so that a new key counts at once.

    Parameters
    ----------
    path
        The file: a list of keys in JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None
        self._keys: list[bytes] = []

    def accept(self, authorization: bytes) -> bool:
        """Tell whether an ``Authorization`` header holds one of the keys, in a time that does not depend on which."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        if self._known != (now := (status.st_ino, status.st_mtime_ns)):
            self._keys = [f"Bearer {key}".encode() for key in json.loads(self._path.read_text())]
            self._known = now
        return any([hmac.compare_digest(authorization, key) for key in self._keys])  # noqa: C419  (all are compared)
