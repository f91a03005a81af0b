"""What the server says, as plain values that read well in a terminal and in a notebook.

``repr`` gives a few lines of text, ``_repr_html_`` a captioned table. With ``TRITONNB_STABLE_OUTPUT=1`` in
the environment the floats shown are rounded to two significant digits, so that notebooks under test show the same
on every machine.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonnb.errors import InferenceError, nearest
from tritonnb.render.html import classes_table, table
from tritonnb.render.text import bar, stable_output, text_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tritonnb.client.classification import Class
    from tritonnb.client.timing import Timing

#: Tensors of up to so many elements are shown whole, of larger ones so many elements.
_SHOWN_WHOLE, _SHOWN_FIRST = 16, 3


@dataclass(frozen=True, repr=False)
class TensorMetadata:
    """An input or output of a model.

    Parameters
    ----------
    name
        The tensor's name.
    datatype
        Triton's word, such as ``"FP32"``.
    shape
        -1 where any size will do; with the batch dimension where the model has one.
    optional
        Whether a request may leave this input out.
    format
        Of an input of pictures, what its configuration says of their layout: ``"FORMAT_NCHW"``, ``"FORMAT_NHWC"``, or
        nothing.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    format: str = ""

    def __repr__(self) -> str:
        optional = " optional" if self.optional else ""
        return f"{self.name} {self.datatype} {shape_text(self.shape)}{optional}"


@dataclass(frozen=True, repr=False)
class ModelMetadata:
    """What a model takes and gives.

    Parameters
    ----------
    name
        The model's name.
    versions
        The versions that are served.
    platform
        Triton's word for what runs it, such as ``"onnxruntime_onnx"``.
    inputs, outputs
        The tensors, with the batch dimension where the model has one.
    max_batch_size
        The most that fit in one request; 0 where the model has no batch dimension.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    max_batch_size: int = 0

    @property
    def batched(self) -> bool:
        """Whether the first dimension of every tensor is the batch."""
        return self.max_batch_size > 0

    def _title(self) -> str:
        versions = f"version{'s' if len(self.versions) > 1 else ''} {', '.join(self.versions)}"
        batch = f"batches N of up to {self.max_batch_size}" if self.batched else "no batch dimension"
        return ", ".join(filter(None, [self.name, versions, self.platform, batch]))

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (
                tensor.name,
                kind + (", optional" if tensor.optional else ""),
                tensor.datatype,
                shape_text(tensor.shape, batched=self.batched),
            )
            for kind, tensors in (("input", self.inputs), ("output", self.outputs))
            for tensor in tensors
        ]

    def __repr__(self) -> str:
        rows = [(kind, name, datatype, shape) for name, kind, datatype, shape in self._rows()]
        return text_table(f"Model {self._title()}", rows)

    def _repr_html_(self) -> str:
        return table(f"Model {self._title()}", ("Tensor", "Kind", "Datatype", "Shape"), self._rows())


@dataclass(frozen=True, repr=False)
class ModelState:
    """Whether one version of a model is served.

    Parameters
    ----------
    name, version
        The version is empty where none was ever loaded.
    state
        Triton's word: ``READY``, ``UNAVAILABLE``, ``LOADING`` or ``UNLOADING``; ``DEGRADED`` where it lost a process.
    reason
        Why it failed, empty otherwise.
    """

    name: str
    version: str
    state: str
    reason: str = ""

    def _row(self) -> tuple[str, str, str, str]:
        return (self.name, self.version, self.state, self.reason)

    def __repr__(self) -> str:
        return "  ".join(filter(None, [self.name, self.version, self.state, _first_line(self.reason)]))

    def _repr_html_(self) -> str:
        return table(f"Model {self.name}", ("Model", "Version", "State", "Reason"), [self._row()])


@dataclass(frozen=True, repr=False)
class Health:
    """How a deployment is.

    Parameters
    ----------
    state
        ``starting``, ``ready``, ``degraded``, ``failed`` or ``stopped``.
    live, ready
        What ``/v2/health/live`` and ``/v2/health/ready`` answer.
    models
        The state of each version of each model.
    restarts
        How often the server was started again after a failure.
    script
        How the entry script's workers are, in a sentence; empty without one.
    """

    state: str
    live: bool
    ready: bool
    models: tuple[ModelState, ...] = ()
    restarts: int = 0
    script: str = ""

    def _title(self) -> str:
        live, ready = "live" if self.live else "not live", "ready" if self.ready else "not ready"
        again = f", started again {self.restarts}x" if self.restarts else ""
        script = f"; entry script: {_first_line(self.script)}" if self.script else ""
        return f"Health: {self.state} (server {live}, {ready}{again}){script}"

    def __repr__(self) -> str:
        rows = [(m.name, m.version or "-", m.state, _first_line(m.reason)) for m in self.models]
        return text_table(self._title(), rows)

    def _repr_html_(self) -> str:
        rows = [model._row() for model in self.models]  # noqa: SLF001  (of the same module)
        return table(self._title(), ("Model", "Version", "State", "Reason"), rows)


class InferResult(dict[str, "NDArray[Any]"]):
    """The arrays that a model answered, by output name.

    Parameters
    ----------
    outputs
        The arrays by output name.
    model, version
        The model that answered.
    id
        The request's id, empty where none was given.
    parameters
        What the server or the model said beside the outputs.
    """

    def __init__(
        self,
        outputs: Mapping[str, NDArray[Any]],
        *,
        model: str,
        version: str,
        id: str = "",  # noqa: A002  (the protocol's word)
        parameters: Mapping[str, str | bool | float] | None = None,
    ) -> None:
        super().__init__(outputs)
        self.model = model
        self.version = version
        self.id = id
        self.parameters = dict(parameters or {})
        #: Where the time went, of a request sent with ``timing=True``.
        self.timing: Timing | None = None
        self._classified = False
        self._pictures: Sequence[bytes] = ()

    def classes(self, output: str = "") -> list[list[Class]]:
        """Return the best classes of an output, the best first: what ``infer(..., classes=K)`` asked for.

        Parameters
        ----------
        output
            Its name; not needed where there is one output alone.

        Returns
        -------
        list of list of Class
            A list for each of the batch; of a model without a batch dimension, one.

        Raises
        ------
        InferenceError
            There is no such output, or the answer holds its values and not its classes.
        """
        if not output and len(self) == 1:
            output = next(iter(self))
        if output not in self:
            raise InferenceError(f"the answer has no output {output!r}.", hint=nearest(output, self))
        if self[output].dtype.kind != "O":
            raise InferenceError(
                f"the answer holds the values of {output!r} and not its classes.", hint="ask with classes=5."
            )
        from tritonnb.client.classification import read_classes  # noqa: PLC0415  (few answers hold classes)

        return read_classes(self[output])

    def show_classes(self, pictures: Sequence[bytes] = ()) -> None:
        """Show the outputs as classes from now on, beside the pictures (JPEG) that they are about."""
        self._classified = True
        self._pictures = pictures

    def _shows_classes(self) -> bool:
        try:
            return self._classified and all(self.classes(name) for name in self)
        except InferenceError:  # not every v2 server knows of classes, and the arrays are the user's to change
            return False

    def _title(self) -> str:
        request = f", request {self.id}" if self.id else ""
        return f"Answer of {self.model}, version {self.version}{request}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [(name, _dtype_text(array), shape_text(array.shape), values_text(array)) for name, array in self.items()]

    def _class_rows(self, output: str) -> list[list[tuple[str, int, str, float]]]:
        """Return of each of the batch, for each class: its name, index, score as text, and its bar's length."""
        from tritonnb.client.classification import bars  # noqa: PLC0415  (as above)

        return [
            [
                (each.name, each.index, _value(each.score), round(length, 2))
                for each, length in zip(classes, bars([each.score for each in classes]), strict=True)
            ]
            for classes in self.classes(output)
        ]

    def __repr__(self) -> str:
        return "\n".join([self._answer_text(), *([repr(self.timing)] if self.timing else [])])

    def _repr_html_(self) -> str:
        return self._answer_html() + (self.timing._repr_html_() if self.timing else "")

    def _answer_text(self) -> str:
        if not self._shows_classes():
            return text_table(self._title(), self._rows())
        lines = [self._title()]
        for name in self:
            groups = self._class_rows(name)
            for number, rows in enumerate(groups):
                which = f"{name}[{number}]" if len(groups) > 1 else name
                cells = [(label, index, score, bar(length)) for label, index, score, length in rows]
                lines += [f"  {line}" for line in text_table(which, cells).splitlines()]
        return "\n".join(lines)

    def _answer_html(self) -> str:
        if not self._shows_classes():
            return table(self._title(), ("Output", "Dtype", "Shape", "Values"), self._rows())
        return "".join(
            classes_table(
                f"{self._title()}: {name}",
                groups := self._class_rows(name),
                # Only where it is clear which picture is whose.
                [b64encode(jpeg).decode() for jpeg in self._pictures] if len(self._pictures) == len(groups) else [],
            )
            for name in self
        )


def shape_text(shape: Sequence[int], *, batched: bool = False) -> str:
    """Return a shape as people write it: ``N`` for the batch dimension, ``?`` where any size will do."""
    words = ["?" if size == -1 else str(size) for size in shape]
    if batched and words:
        words[0] = "N"
    return f"[{', '.join(words)}]"


def values_text(array: NDArray[Any]) -> str:
    """Return a small array whole, and of a large one the range and the first few values."""
    if array.size == 0:
        return "empty"
    if array.dtype.name == "bfloat16":  # a dtype of ml_dtypes, which numpy's own functions know in part
        array = array.astype("float32")
    if array.size <= _SHOWN_WHOLE:
        return _nested(array.tolist())
    first = ", ".join(_value(value) for value in array.ravel()[:_SHOWN_FIRST].tolist())
    return ": ".join(filter(None, [_range_text(array), f"{first}, ..."]))


def _range_text(array: NDArray[Any]) -> str:
    if array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size} true"
    if array.dtype.kind not in "iuf":
        return ""
    numbers = array[array == array] if array.dtype.kind == "f" else array  # noqa: PLR0124  (NaN is not itself)
    missing = array.size - numbers.size
    span = f"{_value(numbers.min().item())} to {_value(numbers.max().item())}" if numbers.size else ""
    return ", ".join(filter(None, [span, f"{missing} NaN" if missing else ""]))


def _dtype_text(array: NDArray[Any]) -> str:
    if array.dtype.kind != "O":
        return str(array.dtype)
    return "str" if array.size and isinstance(array.flat[0], str) else "bytes"


def _nested(values: object) -> str:
    if isinstance(values, list):
        return f"[{', '.join(_nested(value) for value in values)}]"
    return _value(values)


def _value(value: object) -> str:
    if isinstance(value, float):
        digits = 2 if stable_output() else 4
        return f"{value:.{digits}g}"
    if isinstance(value, bytes):
        try:
            return repr(value.decode())
        except UnicodeDecodeError:
            return repr(value)
    return repr(value)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
