"""``%triton_infer``: what stands on its line, as a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.errors import UsageError
from tritonnb.magics.options import PICTURES
from tritonnb.magics.parsed import served

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from tritonnb.client import InferResult
    from tritonnb.client.code import Snippet
    from tritonnb.handle import Served


class Streamed(list["InferResult"]):
    """The answers of a stream, which were shown as they came and are not shown again."""

    def _ipython_display_(self) -> None:
        pass


def infer(options: argparse.Namespace, namespace: Mapping[str, Any]) -> object:
    """Do what a line asks for; return the result, the answers, or the code that was asked for instead."""
    given = dict(pair.resolve(namespace) for pair in options.inputs)
    inputs = {name: _literal(value, namespace) for name, value in given.items()}
    request = _request(options)
    made_up = _made_up(options)
    handle = served(options.on)
    if made_up is not None:
        inputs = handle.random_inputs(options.model, but=inputs, **made_up) | inputs
    if options.stream:
        return _streamed(handle, options.model, inputs, request)
    if options.curl or options.code:
        names = {pair.partition("=")[0]: pair.expression for pair in options.inputs}
        language = "curl" if options.curl else "python"
        return _with_files(handle.code(options.model, inputs, language, names=names, **request))
    return handle.infer(options.model, inputs, timing=options.timing, **request)


def _made_up(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return how inputs are to be made up; None where they are not."""
    if options.random:
        shapes = {name: _sizes(text) for name, text in _pairs("--shape", options.shape).items()}
        return {"batch_size": options.batch or 1, "shapes": shapes, "seed": options.seed or 0}
    for option in ("batch", "shape", "seed"):
        if getattr(options, option) is not None:
            raise UsageError(f"%triton_infer: --{option} is about random inputs.", hint="add --random.")
    return None


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `tritonnb.client.options.InferOptions` that the line sets."""
    request = {
        "outputs": options.outputs.split(",") if options.outputs else None,
        "version": options.model_version,
        "request_id": options.request_id,
        "classes": options.classes,
        "timeout": options.timeout,
        "binary": not options.json,
        "priority": options.priority,
        "queue_timeout": options.queue_timeout,
        "parameters": {name: _scalar(text) for name, text in _pairs("--param", options.param).items()},
        "headers": _pairs("--header", options.header),
        "compression": options.compression,
        "decode": options.decode,
        "scaling": options.scaling,
        **_sequence(options.sequence),
    }
    return request | ({"protocol": options.protocol} if options.protocol else {})  # a stream has a default of its own


def _streamed(handle: Served, model: str, inputs: Mapping[str, object], request: Mapping[str, Any]) -> Streamed:
    answers = Streamed()
    with handle.stream(model, inputs, **request) as stream:
        for answer in stream:
            title, *outputs = str(answer).splitlines()
            print("\n".join(outputs if answers else [title, *outputs]))  # noqa: T201  (shown as it comes)
            answers.append(answer)
    return answers


def _with_files(code: Snippet) -> Snippet:
    code.write()
    for name, content in code.files.items():
        print(f"{name}: {len(content):,} bytes, written into the current folder.")  # noqa: T201  (it is the user's folder)
    return code


def _literal(value: object, namespace: Mapping[str, Any]) -> object:
    """Return what the text of ``input=text`` stands for: JSON, such as ``[[1, 2]]`` or ``3.5``, or a file."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        if file := _file(value):
            return file
        raise UsageError(
            f"{value!r} is neither $name nor JSON, nor a file.",
            hint=f"did you mean ${value}, the variable?"
            if value in namespace
            else "for a text write it in JSON's quotes: '[\"some text\"]'.",
        ) from None


def _file(text: str) -> Path | None:
    """Return the path that a text is: of a file that is there, or of a picture that may be missing."""
    try:
        file = Path(text).expanduser()
        return file if file.suffix.lower() in PICTURES or file.is_file() else None
    except (OSError, RuntimeError):  # too long for a name, or of an unknown user
        return None


def _pairs(option: str, given: Iterable[str] | None) -> dict[str, str]:
    pairs = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"%triton_infer: {option} {pair!r} is not NAME=VALUE.")
        pairs[name] = value
    return pairs


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise UsageError(f"%triton_infer: {text!r} is no shape.", hint="write it as --shape x=3,224,224.") from None


def _scalar(text: str) -> object:
    """Return a parameter's value: a number or a truth as JSON writes it, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float)) else text


def _sequence(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    name, *marks = text.split(":")
    for mark in marks:
        if mark not in ("start", "end"):
            raise UsageError(
                f"%triton_infer: --sequence {text!r} cannot be read.",
                hint="write ID, ID:start, ID:end or ID:start:end.",
            )
    return {
        "sequence_id": int(name) if name.isdecimal() else name,
        "sequence_start": "start" in marks,
        "sequence_end": "end" in marks,
    }
