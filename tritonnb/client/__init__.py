"""A client of the v2 protocol over HTTP: metadata, model control, statistics, inference."""

from tritonnb.client.inference import Client
from tritonnb.client.listings import Logs, Metrics, ModelConfig, ModelList, Statistics
from tritonnb.client.metrics import read_metrics
from tritonnb.client.results import Health, InferResult, ModelMetadata, ModelState, TensorMetadata

__all__ = [
    "Client",
    "Health",
    "InferResult",
    "Logs",
    "Metrics",
    "ModelConfig",
    "ModelList",
    "ModelMetadata",
    "ModelState",
    "Statistics",
    "TensorMetadata",
    "read_metrics",
]
