"""Compressed bodies of requests and answers, as HTTP has them: gzip, and deflate in zlib's format."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from tritonnb.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAST = 1  # tensors hardly get smaller with more
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # the format is told by its first bytes


def compress(parts: Sequence[bytes | memoryview], encoding: str) -> bytes:
    """Return a body compressed as ``Content-Encoding: gzip`` or ``deflate`` says."""
    body = b"".join(parts)
    return gzip.compress(body, _FAST, mtime=0) if encoding == "gzip" else zlib.compress(body, _FAST)


def decompress(body: bytes | bytearray) -> bytes:
    """Return the body of an answer of either encoding.

    Raises
    ------
    ServerError
        It is cut off, or not compressed as it should be.
    """
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        whole = stream.decompress(body)
    except zlib.error as error:
        raise _unreadable(str(error)) from error
    if not stream.eof:
        raise _unreadable("it is cut off")
    return whole


def _unreadable(why: str) -> ServerError:
    return ServerError(
        f"the server's compressed answer cannot be read: {why}.", hint="see whether a proxy stands between."
    )
