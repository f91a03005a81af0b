"""The shape that an input should have, and the likeliest mistake in one that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonnb.client.results import shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tritonnb.client.results import ModelMetadata, TensorMetadata

_FIRST = "it is channels first, the model takes channels last"
_LAST = "it is channels last, the model takes channels first"
_SWAPPED = "two dimensions have changed places"
# Orders of dimensions that are taken for each other, by their number and whether the first is the batch: how to turn
# them, and what was given.
_TURNS: dict[tuple[int, bool], dict[tuple[int, ...], str]] = {
    (4, True): {(0, 3, 1, 2): _LAST, (0, 2, 3, 1): _FIRST},
    (4, False): {(0, 3, 1, 2): _LAST, (0, 2, 3, 1): _FIRST},
    (3, True): {(0, 2, 1): _SWAPPED},
    (3, False): {(2, 0, 1): _LAST, (1, 2, 0): _FIRST},
    (2, True): {(1, 0): _SWAPPED},
    (2, False): {(1, 0): _SWAPPED},
}


def expected_input(metadata: ModelMetadata, tensor: TensorMetadata) -> str:
    """Return an input as people write it: ``data_0 FP32 [N, 3, 224, 224]``."""
    return f"{tensor.name} {tensor.datatype} {shape_text(tensor.shape, batched=metadata.batched)}"


def expected_inputs(metadata: ModelMetadata) -> str:
    """Return all that a model takes, and what N means where it batches."""
    inputs = ", ".join(
        expected_input(metadata, tensor) + (" (optional)" if tensor.optional else "") for tensor in metadata.inputs
    )
    return inputs + (f"; N is the batch, 1 to {metadata.max_batch_size}" if metadata.batched else "")


def fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Tell whether a shape is the expected one, where -1 stands for any size."""
    return len(shape) == len(expected) and all(
        wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )


def likely_mistake(shape: Sequence[int], expected: Sequence[int], *, batched: bool) -> tuple[str, str]:
    """Return what is probably wrong with a shape, and the expression that mends it; both empty where nothing is near.

    Parameters
    ----------
    shape
        What was given, of an array ``x``.
    expected
        What should have been given, -1 where any size will do.
    batched
        Whether the first dimension is the batch.
    """
    return next(_mistakes(tuple(shape), expected, batched=batched), ("", ""))


def _mistakes(shape: tuple[int, ...], expected: Sequence[int], *, batched: bool) -> Iterator[tuple[str, str]]:
    """Yield what may be wrong, the likeliest first."""
    first = "the batch dimension" if batched else "the first dimension"
    if fits((1, *shape), expected):
        yield f"{first} is missing", "add it with x[None], or numpy.expand_dims(x, 0)."
    if not shape:
        yield "it is a single value", "give as many as the model takes."
    if fits((*shape, 1), expected):
        yield "the last dimension is missing", "add it with x[..., None]."
    if shape[:1] == (1,) and fits(shape[1:], expected):
        yield "one dimension too many", "take the first one off with x[0]."
    for axes, mistake in _TURNS.get((len(expected), batched), {}).items():
        if fits(_turned(shape, axes), expected):
            yield mistake, f"turn it with x.transpose({', '.join(map(str, axes))})."
        inner = tuple(axis - 1 for axis in axes[1:])
        if axes[0] == 0 and fits((1, *_turned(shape, inner)), expected):
            yield f"{mistake}, and {first} is missing", f"turn it with x.transpose({', '.join(map(str, inner))})[None]."
    if -1 not in expected[1:] and _without_ones(shape) == _without_ones(expected):
        yield (
            "it has other dimensions of 1",
            f"x.reshape({', '.join(map(str, expected))}) keeps the order of its values.",
        )


def _turned(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in axes) if len(shape) == len(axes) else ()


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size not in (1, -1)]
