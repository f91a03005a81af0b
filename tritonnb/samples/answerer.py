"""The sample question answerer, in the shape of Azure ML's BiDAF sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonnb.samples.cached import cached
from tritonnb.samples.extra import samples_extra

if TYPE_CHECKING:
    from pathlib import Path

ANSWERER_NAME = "bidaf-shaped"

_RECIPE = 1


def question_answerer() -> Path:
    """Return the sample question answerer as an ONNX file in tritonnb's cache.

    It takes and gives what ``bidaf-9.onnx`` of the ONNX model zoo does, so that either can stand for the other, but
    **it is not BiDAF**: it has a stand-in's weights. It joins word vectors with a few rules, knows what words mean,
    and not what sentences say; often it is wrong.

    The first call builds it (under 1 s, 11.4 MB). It goes from four inputs of strings, ``context_word`` [c, 1],
    ``context_char`` [c, 1, 1, 16], ``query_word`` [q, 1] and ``query_char`` [q, 1, 1, 16], to two positions in the
    context, ``start_pos`` and ``end_pos``, int32 [1]. Words are in lower case, their characters are not; those are the
    first 16, and ``""`` where there are fewer.

    Returns
    -------
    Path
        The cached file. It belongs to the cache: use :func:`lay_out` for a copy of your own.

    Raises
    ------
    TritonNbError
        The extra ``samples`` is not installed, or the files of its package are damaged.
    HomeError
        The cache cannot be written.
    """
    return cached(ANSWERER_NAME, _RECIPE, _build)


def _build() -> bytes:
    from tritonnb.samples.word_vectors import word_vectors  # noqa: PLC0415  (only the first call builds)

    with samples_extra():
        from tritonnb.samples.bidaf_shaped import bidaf_shaped  # noqa: PLC0415  (imports onnx, an extra)

    content: bytes = bidaf_shaped(word_vectors()).SerializeToString(deterministic=True)
    return content
