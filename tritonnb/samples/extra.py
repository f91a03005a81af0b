"""What to say when the packages of the extra ``samples`` are not installed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tritonnb.errors import TritonNbError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def samples_extra() -> Iterator[None]:
    """Turn a failed import of one of the extra's packages into an error that says how to get it.

    Raises
    ------
    TritonNbError
        An import inside the block found no such package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing(error.name) from error


def missing(package: str | None) -> TritonNbError:
    """Return the error that says which package is not installed and how to get it."""
    return TritonNbError(
        f"the samples need the package {package}, which is not installed.",
        hint="pip install 'tritonnb[samples]'",
    )
