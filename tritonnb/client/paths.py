"""The protocol's paths, quoted as Triton reads them."""

from __future__ import annotations

from urllib.parse import quote

#: What a path may hold as it is (RFC 3986). Triton compares paths as they come, without unquoting them.
PATH_SAFE = "/%~!$&'()*+,;=:@"


def quoted(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe=PATH_SAFE.replace("/", "").replace("%", ""))


def model_path(model: str, version: str = "") -> str:
    """Return the path of a model, or of one of its versions, without a leading slash."""
    return f"v2/models/{quoted(model)}" + (f"/versions/{quoted(version)}" if version else "")
