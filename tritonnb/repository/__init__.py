"""From model files to a repository that tritonserver reads: finding, checking, staging."""

from tritonnb.repository.layout import Model, find_models, in_memory, models_of
from tritonnb.repository.staging import Cell, Staged, files_below, link_or_copy, stage

__all__ = ["Cell", "Model", "Staged", "files_below", "find_models", "in_memory", "link_or_copy", "models_of", "stage"]
