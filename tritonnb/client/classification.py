"""What Triton's classification extension answers: the best classes of an output, as rows instead of strings.

The rule is that of Triton's ``extension_classification.md``: an output asked for with ``classification: K`` comes as
BYTES, each element ``score:index`` or, where the model's config.pbtxt names a ``label_filename``,
``score:index:label``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonnb.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BATCHED = 2


@dataclass(frozen=True)
class Class:
    """One of the best classes of an output.

    Parameters
    ----------
    score
        The output's value there.
    index
        Where in the output.
    label
        What the model's label file calls it; empty where it has none.
    """

    score: float
    index: int
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or else a word made of the index."""
        return self.label or f"class {self.index}"


def read_classes(answered: NDArray[Any]) -> list[list[Class]]:
    """Return the best classes that an output's strings stand for, the best first.

    Parameters
    ----------
    answered
        ``bytes`` or ``str`` objects, [K] or, with a batch, [N, K].

    Returns
    -------
    list of list of Class
        A list for each of the batch; of a model without a batch dimension, one.

    Raises
    ------
    InferenceError
        They are not what a classification answers.
    """
    rows = answered if answered.ndim == _BATCHED else answered.reshape(1, -1)
    return [[_read(element) for element in row] for row in rows.tolist()]


def _read(element: str | bytes) -> Class:
    try:
        text = element.decode(errors="replace") if isinstance(element, bytes) else element
        score, index, *label = text.split(":", 2)
        return Class(float(score), int(index), *label)
    except (AttributeError, ValueError):
        raise InferenceError(f"{element!r} is not a class as score:index:label.") from None


def bars(scores: Sequence[float]) -> list[float]:
    """Return how long a score's bar is, 0 to 1: probabilities as they are, others as parts of the greatest."""
    finite = [score for score in scores if abs(score) < float("inf")]  # leaves NaN out too
    low = min([0.0, *finite])
    high = 1.0 if all(0 <= score <= 1 for score in finite) else max([0.0, *finite])
    span = high - low or 1.0
    return [min(1.0, max(0.0, (score - low) / span)) if score == score else 0.0 for score in scores]  # noqa: PLR0124  (NaN is not itself)
