"""What to do about a request that Triton refuses: its words, some of them misleading, and the likeliest mistake.

tritonnb's own requests are checked before they are sent; these words come back to other clients, for a model that was
changed in between, and from within an ensemble.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonnb.client.shapes import expected_inputs, likely_mistake
from tritonnb.client.tensors import dtype_of
from tritonnb.errors import InferenceError, nearest

if TYPE_CHECKING:
    from tritonnb.client.results import ModelMetadata

# Triton 2.51's words, as its HTTP and gRPC answers have them.
_BATCH_TOO_LARGE = re.compile(r"batch-size must be <= (?P<most>\d+) for")
_SHAPE = re.compile(
    r"unexpected shape for input '[^']*' for model '[^']*'\. Expected \[(?P<expected>[^]]*)\], got \[(?P<got>[^]]*)\]"
)
_BATCHES = "Setting a non-zero max_batch_size"
_DATATYPE = re.compile(r"data-type is '\w+', but model '[^']*' expects '(?P<wanted>\w+)'")
_UNKNOWN = re.compile(r"unexpected inference (?P<kind>input|output) '(?P<name>[^']*)' for model")
_COUNT = re.compile(
    r"expected \d+ inputs but got \d+ inputs for model '[^']*'\. Got input\(s\) \[(?P<got>[^]]*)\],"
    r" but missing required input\(s\) \[?(?P<missing>[^]]*)\]"
)
_BATCHES_DIFFER = "batch size does not match other inputs"
_BYTES = re.compile(r"input byte size mismatch for input '[^']*' for model '[^']*'\. Expected \d+, got (?P<got>\d+)")


def refusal_hint(reason: str, metadata: ModelMetadata | None = None) -> str:
    """Return what to do about a request that the server refused; empty where it was not for the request's own sake.

    Parameters
    ----------
    reason
        The server's words.
    metadata
        What the model takes, where that is known: then the hint tells it.
    """
    advice = _advice(reason, metadata)
    if advice and metadata and metadata.inputs:
        return f"{advice} Expected: {expected_inputs(metadata)}."
    return advice


def _advice(reason: str, metadata: ModelMetadata | None) -> str:  # noqa: PLR0911  (one for each of Triton's words)
    if found := _BATCH_TOO_LARGE.search(reason):
        return (
            "the first dimension of an input is taken for the batch: if it is none, the batch dimension was forgotten,"
            f" and x[None] adds it; if it is, send {found['most']} at a time or raise the model's max_batch_size."
        )
    if found := _SHAPE.search(reason):
        mistake, cure = likely_mistake(_numbers(found["got"]), _numbers(found["expected"]), batched=_BATCHES in reason)
        return f"{mistake}: {cure}" if mistake else "the shape must be the expected one, where -1 stands for any size."
    if found := _DATATYPE.search(reason):
        return f"cast it: {_cast(found['wanted'])}."
    if found := _UNKNOWN.search(reason):
        return _other_name(found["kind"], found["name"], metadata)
    if found := _COUNT.search(reason):
        if found["missing"]:
            return f"give {found['missing'].replace(',', ', ')} too."
        known = [tensor.name for tensor in metadata.inputs] if metadata else []
        extra = [name for name in re.findall(r"'([^']*)'", found["got"]) if known and name not in known]
        return f"leave out {', '.join(map(repr, extra)) or 'what the model does not take'}."
    if _BATCHES_DIFFER in reason:
        return "the first dimension of every input is the batch, and must be the same in all of them."
    if found := _BYTES.search(reason):
        if found["got"] == "0":
            return "Triton refuses a batch of none: send one at least."
        return "the bytes sent are not those of the shape and datatype that were named beside them."
    return ""


def _numbers(shape: str) -> tuple[int, ...]:
    return tuple(int(size) for size in shape.split(",") if size)


def _cast(datatype: str) -> str:
    if datatype == "BYTES":
        return 'x.astype("str")'
    try:
        return f'x.astype("{dtype_of(datatype)}")'
    except InferenceError:  # a datatype of a later release
        return f"to {datatype}"


def _other_name(kind: str, name: str, metadata: ModelMetadata | None) -> str:
    if metadata is None:
        return f"the model's metadata lists its {kind}s."
    tensors = metadata.inputs if kind == "input" else metadata.outputs
    return nearest(name, [tensor.name for tensor in tensors])
