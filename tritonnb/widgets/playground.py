"""The playground: a form made from a model's metadata, its answer, and the line that does the same."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from tritonnb.errors import InferenceError, TritonNbError
from tritonnb.render.html import render
from tritonnb.widgets.panel import ModelChoice, Panel, answer_while_busy

if TYPE_CHECKING:
    from tritonnb.client import ModelMetadata, TensorMetadata
    from tritonnb.handle import Served
    from tritonnb.widgets.look import Look

#: How many classes are asked for where they have names.
_LABELLED = 3
RANDOM, VALUE, PICTURE = "random", "a value", "a picture"


class PlaygroundPanel(Panel):
    """Calls a model with what a person gives: a picture, a text, numbers or something random."""

    title = "Playground"

    def __init__(self, handle: Served) -> None:
        self._model = ModelChoice()
        self._form = widgets.VBox()
        self._fields: list[Field] = []
        self._seen: tuple[tuple[str, str, str], ...] = ()
        self._classes = widgets.BoundedIntText(
            0, min=0, max=1000, description="Classes", tooltip="The so many best classes; 0 for the values themselves"
        )
        self._classes.layout.width = "12em"
        self._send = self.button("Send", "Send the request", self._ask, "primary")
        self._answer = widgets.HTML()
        self._model.observe(self.guarded(self._make_form), "value")
        super().__init__(handle, [self._model, self._form, widgets.HBox([self._classes, self._send])], [self._answer])

    def see(self, look: Look) -> None:
        """Take over the list of models; the form is made again when the model was loaded anew."""
        seen = tuple((model.name, model.version, model.state) for model in look.health.models)
        if seen == self._seen or look.gone:
            return
        self._seen = seen
        self._model.offer(look)
        self._make_form()

    def _make_form(self) -> None:
        self.say("")
        if self._model.value is None:
            return
        try:
            metadata = self.handle.metadata(self._model.value)
            labelled = any(
                output.get("label_filename") for output in self.handle.config(metadata.name).get("output", ())
            )
        except TritonNbError as error:
            self._fields, self._form.children = [], ()
            self.fail(error)
            return
        known = [field.tensor for field in self._fields]
        if known == list(metadata.inputs):  # loaded anew with the same inputs: what was typed stays
            return
        self._fields = [Field(metadata, tensor) for tensor in metadata.inputs]
        self._form.children = [field.widget for field in self._fields]
        self._classes.value = _LABELLED if labelled else 0
        self._answer.value = ""
        answer_while_busy(self._form)

    def _ask(self) -> None:
        model: str = self._model.value
        self._answer.value = ""
        given = {field.tensor.name: field for field in self._fields if field.given}
        inputs = {name: field.value() for name, field in given.items() if field.how.value != RANDOM}
        # The scaling of a request is that of all its pictures.
        scaling = next((field.scaling.value for field in given.values() if field.how.value == PICTURE), "none")
        asked: dict[str, Any] = {"classes": self._classes.value} if self._classes.value else {}
        if scaling != "none":
            asked["scaling"] = scaling
        line = _line(model, list(given.values()), asked)

        def send() -> str:
            left_out = [field.tensor.name for field in self._fields if not field.given]
            made_up = self.handle.random_inputs(model, but=[*inputs, *left_out]) if len(inputs) < len(given) else {}
            result = self.handle.infer(model, {**made_up, **inputs}, **asked)
            self._answer.value = render("answer.html.j2", answer=result._repr_html_(), line=line)
            return "Answered."

        self.act("Sending", send, self._send)


class Field:
    """The form of one input.

    Parameters
    ----------
    metadata, tensor
        The model, and its input.
    """

    def __init__(self, metadata: ModelMetadata, tensor: TensorMetadata) -> None:
        from tritonnb.client.pictures import SCALINGS, frame_of  # noqa: PLC0415  (numpy, when a model is there)
        from tritonnb.client.results import shape_text  # noqa: PLC0415

        self.tensor = tensor
        frame = frame_of(metadata, tensor)
        ways = [
            *([PICTURE] if frame else []),
            *([VALUE, RANDOM] if tensor.datatype == "BYTES" else [RANDOM, VALUE]),
        ]
        self.how = widgets.Dropdown(options=ways, layout=widgets.Layout(width="9em"), tooltip="What to send")
        self._text = widgets.Textarea(
            placeholder="a text, or a list of them in JSON"
            if tensor.datatype == "BYTES"
            else "JSON: 3.5 or [[1, 2], [3, 4]]",
            layout=widgets.Layout(width="30em", height="4em"),
        )
        self._upload = widgets.FileUpload(
            accept="image/*", multiple=False, description="Choose a picture", tooltip="A file of this computer"
        )
        self._upload.layout.width = "auto"
        self.scaling = widgets.Dropdown(
            options=[(f"{name}: {what}", name) for name, what in SCALINGS.items()],
            description="Scaling, as it was trained with",
            style={"description_width": "initial"},
            layout=widgets.Layout(width="34em"),
            tooltip="What is done with its pixels; it is resized to what the model takes",
        )
        optional = ", optional" if tensor.optional else ""
        size = f", a picture of {frame.width} x {frame.height}" if frame and frame.width > 0 else ""
        label = widgets.Label(
            f"{tensor.name}: {tensor.datatype} {shape_text(tensor.shape, batched=metadata.batched)}{optional}{size}"
        )
        self._picture = widgets.HBox([self._upload, self.scaling], layout=widgets.Layout(flex_flow="row wrap"))
        self.widget = widgets.VBox(
            [label, widgets.HBox([self.how, self._picture, self._text], layout=widgets.Layout(flex_flow="row wrap"))]
        )
        self.how.observe(self._choose, "value")
        self._choose(None)

    @property
    def given(self) -> bool:
        """Whether there is something to send: an optional input that was left empty is left out."""
        return not (self.tensor.optional and self.how.value == VALUE and not self._text.value)

    @property
    def written(self) -> str:
        """What stands for the value on a magic's line."""
        if self.how.value == PICTURE:
            return str(self._upload.value[0]["name"])
        return self._text.value if _is_json(self._text.value) else json.dumps(self._text.value)

    def value(self) -> object:
        """Return what was given, as `infer` takes it.

        Raises
        ------
        InferenceError
            There is nothing, or it is no picture or no JSON.
        """
        if self.how.value == PICTURE:
            return self._uploaded()
        text = self._text.value
        if self.tensor.datatype == "BYTES" and not _is_json(text):
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise InferenceError(
                f"the value of {self.tensor.name!r} is no JSON: {error}.", hint="write 3.5, or [[1, 2], [3, 4]]."
            ) from error

    def _uploaded(self) -> object:
        if not self._upload.value:
            raise InferenceError(f"there is no picture for {self.tensor.name!r}.", hint="press `Choose a picture`.")
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  (an extra)

        try:
            return Image.open(io.BytesIO(bytes(self._upload.value[0]["content"])))
        except UnidentifiedImageError:
            name = Path(self._upload.value[0]["name"]).name
            raise InferenceError(f"{name!r} is no picture.", hint="choose a PNG or JPEG file.") from None

    def _choose(self, _: object) -> None:
        self._picture.layout.display = "" if self.how.value == PICTURE else "none"
        self._text.layout.display = "" if self.how.value == VALUE else "none"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _line(model: str, fields: list[Field], asked: dict[str, Any]) -> str:
    """Return the magic that sends the same."""
    written = [shlex.quote(f"{f.tensor.name}={f.written}") for f in fields if f.how.value != RANDOM]
    options = ["--random"] if any(f.how.value == RANDOM for f in fields) else []
    options += [f"--{name} {value}" for name, value in asked.items()]
    return " ".join(["%triton_infer", shlex.quote(model), *written, *options])
