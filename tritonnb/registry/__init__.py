"""The registry of models: names and versions for copies that do not change, in tritonnb's home."""

from tritonnb.registry.model import RegisteredModel, RegisteredModels
from tritonnb.registry.references import in_words_of_a_spec, located, pinned, served_from
from tritonnb.registry.registering import register, registered

__all__ = [
    "RegisteredModel",
    "RegisteredModels",
    "in_words_of_a_spec",
    "located",
    "pinned",
    "register",
    "registered",
    "served_from",
]
