"""The model panel: what a model takes and gives, how it is served, and a cell that calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from tritonnb.errors import TritonNbError
from tritonnb.render.html import render, table
from tritonnb.widgets.panel import ModelChoice, Panel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.client import ModelMetadata
    from tritonnb.handle import Served
    from tritonnb.widgets.look import Look

_KINDS = {"KIND_CPU": " on the CPU", "KIND_GPU": " on the GPU", "KIND_MODEL": ", placed by the model itself"}


class ModelPanel(Panel):
    """One model at a time: metadata, settings in words, config.pbtxt, an example."""

    title = "Models"

    def __init__(self, handle: Served) -> None:
        self._model = ModelChoice()
        self._about = widgets.HTML()
        self._seen: tuple[tuple[str, str, str], ...] = ()
        self._metadata: ModelMetadata | None = None
        self._model.observe(self.guarded(self._show), "value")
        super().__init__(handle, [self._model, self._about])

    def see(self, look: Look) -> None:
        """Take over the list of models; what is shown of one is asked again when its state or version changes."""
        seen = tuple((model.name, model.version, model.state) for model in look.health.models)
        if seen == self._seen or look.gone:
            return
        self._seen = seen
        self._model.offer(look)
        self._show()

    def saved(self, look: Look) -> object:
        """Return what the chosen model takes and gives."""
        return self._metadata or look

    def _show(self) -> None:
        self.say("")
        model = self._model.value
        if model is not None:
            try:
                self._metadata = self.handle.metadata(model)
                self._about.value = render("panel.html.j2", content=about(self._metadata, self.handle.config(model)))
            except TritonNbError as error:
                self._metadata = None
                self._about.value = ""
                self.fail(error)


def about(metadata: ModelMetadata, config: Mapping[str, Any]) -> str:
    """Return what there is to know of a model as HTML."""
    from tritonnb.repository import pbtxt  # noqa: PLC0415  (protobuf, only when a model is looked at)

    return render(
        "model.html.j2",
        metadata=metadata._repr_html_(),
        settings=table("How it is served", ("", ""), settings(config)),
        pbtxt=pbtxt.to_text(pbtxt.from_json(config)),
        example=example(metadata),
    )


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a configuration's settings of batching, instances and labels, in words by topic."""
    words = [("Batching", _batching(config)), ("Instances", _instances(config))]
    if "sequence_batching" in config:
        words.append(("Sequences", "requests with one sequence id go to one instance, in order"))
    if config.get("model_transaction_policy", {}).get("decoupled"):
        words.append(("Answers", "any number for each request (decoupled): stream them"))
    if labelled := [f"{o['name']}: {o['label_filename']}" for o in config.get("output", ()) if o.get("label_filename")]:
        words.append(("Labels", ", ".join(labelled)))
    if steps := config.get("ensemble_scheduling", {}).get("step"):
        words.append(("Made of", " -> ".join(str(step.get("model_name", "")) for step in steps)))
    if limit := config.get("version_policy"):
        words.append(("Versions served", ", ".join(limit)))
    return words


def _batching(config: Mapping[str, Any]) -> str:
    most = int(config.get("max_batch_size", 0))
    if not most:
        return "none: a request is what the model sees"
    dynamic = config.get("dynamic_batching")
    if dynamic is None:
        return f"up to {most} in a request; requests are not put together"
    delay = int(dynamic.get("max_queue_delay_microseconds", 0))
    wait = f", a request waits up to {delay} µs for others" if delay else ", of requests that wait anyway"
    preferred = dynamic.get("preferred_batch_size")
    sizes = f", preferably of {' or '.join(map(str, preferred))}" if preferred else ""
    return f"dynamic, batches of up to {most}{sizes}{wait}"


def _instances(config: Mapping[str, Any]) -> str:
    groups = config.get("instance_group") or [{"count": 1}]
    return ", ".join(f"{group.get('count', 1)}{_KINDS.get(group.get('kind', ''), '')}" for group in groups)


def example(metadata: ModelMetadata) -> str:
    """Return a cell that calls the model: with zeros of the smallest shapes that it takes."""
    from tritonnb.client.tensors import DTYPES  # noqa: PLC0415  (numpy)

    lines = ["import numpy as np", ""]
    names = []
    for position, tensor in enumerate(metadata.inputs):
        shape = tuple(1 if size == -1 else size for size in tensor.shape)
        name = tensor.name if tensor.name.isidentifier() else f"input_{position}"
        kind = "object" if tensor.datatype == "BYTES" else str(DTYPES.get(tensor.datatype, "float32"))
        filled = f'np.full({shape}, b"text", dtype="object")' if kind == "object" else f'np.zeros({shape}, "{kind}")'
        lines.append(f"{name} = {filled}")
        names.append(f"{tensor.name}=${name}")
    return "\n".join([*lines, f"%triton_infer {metadata.name} {' '.join(names)}"])
