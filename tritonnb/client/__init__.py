"""A client of the v2 protocol over HTTP: metadata, model control, statistics, inference."""

from tritonnb.client.metrics import read_metrics
from tritonnb.client.results import Health, InferResult, ModelMetadata, ModelState, TensorMetadata
from tritonnb.client.server import Client

__all__ = ["Client", "Health", "InferResult", "ModelMetadata", "ModelState", "TensorMetadata", "read_metrics"]
