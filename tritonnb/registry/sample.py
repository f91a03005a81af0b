"""A model's sample input as bytes: numpy's archive where it is arrays, JSON for all else."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from tritonnb.errors import RegistryError

_ARCHIVE = b"PK"  # how a zip file begins, and no JSON


def write(value: object) -> bytes:
    """Return a sample input as bytes.

    Parameters
    ----------
    value
        Arrays by input name, or whatever JSON can hold.

    Raises
    ------
    RegistryError
        It is something else.
    """
    if isinstance(value, Mapping) and any(hasattr(item, "dtype") for item in value.values()):
        import numpy as np  # noqa: PLC0415  (only where there are arrays)

        arrays = {str(name): np.asarray(item) for name, item in value.items()}
        if all(array.dtype != object for array in arrays.values()):
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes `allow_pickle` for one
            return buffer.getvalue()
        value = {name: array.tolist() for name, array in arrays.items()}
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise RegistryError(
            f"The sample input cannot be kept: {error}.",
            hint="give a dict of arrays by input name, or what JSON can hold; bytes as text.",
        ) from error


def read(content: bytes) -> Any:
    """Return the sample input that `write` made the bytes of."""
    if not content.startswith(_ARCHIVE):
        return json.loads(content)
    import numpy as np  # noqa: PLC0415  (as above)

    with np.load(io.BytesIO(content)) as archive:
        return dict(archive)
