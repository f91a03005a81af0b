"""Compare an image of Triton with the embedded engine: ``make compare-nvidia``.

The sample model and the small models of ``plugins/onnx_models.py``, one for each rule of the onnxruntime backend, are
served by both, one after the other. Compared are whether a model loads, its metadata, its configuration as the server
completed it, and its answers. In NVIDIA's image the C++ backend serves them, which ours in Python stands in for.

It ends with 0 where all is equal but what is known to differ, with 1 where something else differs, and with 2 where
there is nothing to compare: no Docker, no image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tritonnb as tn
from tritonnb import samples
from tritonnb.client.tensors import DTYPES
from tritonnb.engines.daemon import docker_client
from tritonnb.engines.images import DEFAULT, NVIDIA, local_image
from tritonnb.errors import TritonNbError, nearest
from tritonnb.render.text import text_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parent / "plugins"))  # as pytest's configuration has it
from onnx_models import write_repository

COLUMNS = ("loads", "metadata", "config", "answers")
#: What ours does on purpose as the C++ backend does not.
KNOWN = {
    ("bfloat16", "loads"): "ours refuses BF16, which numpy does not have",
    ("ragged", "loads"): "ours refuses ragged batching",
    ("doubled", "answers"): "where outputs are not row by row, ours gives each request all that the model gave it",
}
#: Says what runs the model, not how: model.py here, a shared library there.
OF_THE_BACKEND = {"runtime"}
#: Of an output's largest value. Releases of ONNX Runtime add up in another order, GPUs in TF32.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Served:
    """What one engine makes of one model.

    Parameters
    ----------
    state
        Triton's word.
    reason
        Why it does not serve.
    metadata, config
        As the server tells them; empty where it does not serve.
    answers
        The outputs by name, or the error in place of them.
    """

    state: str
    reason: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, NDArray[Any]] | str = ""


def look(deployment: tn.Deployment) -> dict[str, Served]:
    """Return what a deployment makes of each of its models."""
    found = {}
    for model in deployment.models():
        if model.state != "READY":
            found[model.name] = Served(model.state, model.reason)
            continue
        metadata, config = deployment.metadata(model.name), deployment.config(model.name)
        answers = ask(deployment, metadata, config)
        found[model.name] = Served(model.state, "", asdict(metadata), config, answers)
    return found


def ask(
    deployment: tn.Deployment, metadata: tn.ModelMetadata, config: Mapping[str, Any]
) -> dict[str, NDArray[Any]] | str:
    """Send one request with every input and one without the optional ones; a sequence begins and ends with each."""
    sequence = {"sequence_id": 1, "sequence_start": True, "sequence_end": True} if "sequence_batching" in config else {}
    # 4 rows are what some models wait for, to be run together.
    batch = 1 if sequence else min(4, metadata.max_batch_size)
    inputs = {tensor.name: tensor for tensor in metadata.inputs}
    arrays = {name: values(tensor, batch if metadata.batched else 0) for name, tensor in inputs.items()}
    needed = {name: array for name, array in arrays.items() if not inputs[name].optional}
    try:
        answers = dict(deployment.infer(metadata.name, arrays, **sequence))
        if needed.keys() != arrays.keys():
            without = deployment.infer(metadata.name, needed, **sequence)
            answers |= {f"{name} (without the optional inputs)": array for name, array in without.items()}
    except TritonNbError as error:
        return error.message
    return answers


def values(tensor: Any, batch: int) -> NDArray[Any]:
    """Return an array for an input: small numbers, which are indices too, or texts; any size is taken for 3."""
    shape = [3 if size == -1 else size for size in tensor.shape]
    if batch:
        shape[0] = batch
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 7
    if tensor.datatype == "BYTES":
        return np.array([f"é {number}".encode() for number in numbers.ravel()], object).reshape(shape)
    return numbers.astype(DTYPES[tensor.datatype])


def differences(here: Served, there: Served, ignored: set[str]) -> dict[str, list[str]]:
    """Return, for each of `COLUMNS` that can be compared, what differs."""
    if "READY" not in {here.state, there.state}:
        return {"loads": []}
    if here.state != there.state:
        return {"loads": [f"{side}: {it.reason or it.state}" for side, it in (("here", here), ("there", there))]}
    return {
        "loads": [],
        "metadata": list(field_differences(here.metadata, there.metadata, set())),
        "config": list(field_differences(here.config, there.config, ignored)),
        "answers": list(answer_differences(here.answers, there.answers)),
    }


def field_differences(here: Mapping[str, Any], there: Mapping[str, Any], ignored: set[str]) -> Iterator[str]:
    """Say which fields differ, wherever they are."""
    one, other = (
        {path: said for name in it if name not in ignored for path, said in leaves(it[name], name)}
        for it in (here, there)
    )
    for path in sorted(one.keys() | other.keys()):
        if one.get(path) != other.get(path):
            yield f"{path}: {one.get(path, 'nothing')} here, {other.get(path, 'nothing')} there"


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Give what says something, by its path: a field that is empty may be one that the other release lacks."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    elif value:
        yield path, str(value)


def answer_differences(
    here: Mapping[str, NDArray[Any]] | str, there: Mapping[str, NDArray[Any]] | str
) -> Iterator[str]:
    """Say which outputs differ, and by how much."""
    if isinstance(here, str) or isinstance(there, str):
        yield from (f"{side}: {it}" for side, it in (("here", here), ("there", there)) if isinstance(it, str))
        return
    for name in sorted(here.keys() | there.keys()):
        one, other = here.get(name), there.get(name)
        if one is None or other is None:
            yield f"{name}: only {'there' if one is None else 'here'}"
        elif (one.dtype, one.shape) != (other.dtype, other.shape):
            yield f"{name}: {one.dtype} {list(one.shape)} here, {other.dtype} {list(other.shape)} there"
        elif one.dtype.kind == "f":
            apart = float(np.max(np.abs(one - other)) / max(np.max(np.abs(one)), np.finfo(one.dtype).tiny))
            if not apart <= TOLERANCE:
                yield f"{name}: {apart:.1g} of its largest value apart"
        elif not np.array_equal(one, other):
            yield f"{name}: other values"


def report(here: Mapping[str, Served], there: Mapping[str, Served], ignored: set[str], title: str) -> bool:
    """Print what is equal and what differs; return whether all is equal but what is known to differ."""
    rows, notes, unequal = [], [], set()
    for model in sorted(here.keys() | there.keys()):
        absent = Served("UNAVAILABLE", "it is not there")
        cells = dict.fromkeys(COLUMNS, "-")
        for what, texts in differences(here.get(model, absent), there.get(model, absent), ignored).items():
            known = KNOWN.get((model, what))
            cells[what] = "equal" if not texts else "known" if known else "DIFFERS"
            notes += [f"{model}, {what}: {text}" for text in ([known] if texts and known else texts)]
            if cells[what] == "DIFFERS":
                unequal.add(model)
        rows.append((model, *cells.values()))
    print(text_table(title, rows, ("model", *COLUMNS)), *notes, sep="\n")
    print(f"{len(rows) - len(unequal)} of {len(rows)} models are served the same{' or as known' if notes else ''}.")
    return not unequal


def check_image(name: str, *, pull: bool) -> None:
    """End with what would be pulled where the daemon lacks the image and it may not be."""
    with docker_client() as client:
        if pull or local_image(client, name):
            return
    size = " (9 to 16 GB, and more while it is unpacked)" if name.startswith(f"{NVIDIA}:") else ""
    raise TritonNbError(
        f"The image {name} is not on this machine; it would be pulled{size}.",
        hint="allow that with `make compare-nvidia PULL=1` (`--pull`), or name another: `IMAGE=...` (`--image`).",
    )


def lay_out(folder: Path, chosen: list[str]) -> Path:
    """Write the models that were chosen, or all, and return their repository."""
    repository = samples.lay_out(folder).parents[2]
    write_repository(repository)
    there = {model.name for model in repository.iterdir()}
    if unknown := sorted(set(chosen) - there):
        raise TritonNbError(f"There is no model {unknown[0]!r} to compare.", hint=nearest(unknown[0], there))
    for model in there - set(chosen or there):
        (repository / model).rename(folder / model)
    return repository


def main() -> None:
    """Compare the image that the command line names with the embedded engine."""
    parser = argparse.ArgumentParser(description="Compare an image of Triton with the embedded engine.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="only these models")
    parser.add_argument("--image", default=DEFAULT, help="default: %(default)s")
    parser.add_argument("--gpus", default="none", choices=["none", "all"], help="the container's (default: none)")
    parser.add_argument("--pull", action="store_true", help="pull the image where it is missing")
    said = parser.parse_args()
    # With a GPU Triton puts one instance on each, without one two on the CPU.
    ignored = OF_THE_BACKEND | ({"instance_group"} if said.gpus == "all" else set())
    container = {"engine": "docker", "server": {"image": said.image}, "gpus": said.gpus}
    try:
        check_image(said.image, pull=said.pull)
        with tempfile.TemporaryDirectory() as folder:
            repository = lay_out(Path(folder), said.models)
            with tn.deploy(repository, name="compared-embedded", engine="embedded") as deployment:
                here = look(deployment)
            with tn.deploy(repository, name="compared-docker", **container) as deployment:
                there = look(deployment)
    except TritonNbError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # what was deployed is deleted by now
        sys.exit(130)
    title = f"The embedded engine (here) and {said.image} (there), gpus: {said.gpus}"
    sys.exit(not report(here, there, ignored, title))


if __name__ == "__main__":
    main()
