"""Reading, merging and writing ``config.pbtxt`` by Triton's own schema.

The schema is ``ModelConfig`` of Triton's model_config.proto, as tritonclient ships it; text is read by protobuf's
text_format, so whatever passes here is what the server reads, and errors come with line and column before it starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tritonnb.errors import ModelConfigError, nearest

if TYPE_CHECKING:
    from pathlib import Path

_UNKNOWN_FIELD = re.compile(r'Message type "(?P<type>[\w.]+)" has no field named "(?P<word>[^"]+)"')
_UNKNOWN_VALUE = re.compile(r'Enum type "(?P<type>[\w.]+)" has no value named "?(?P<word>\w+)')
_PLACEHOLDER = re.compile(r"\$\{\w*\}")
_SYNTAX_HINT = "config.pbtxt is written as `key: value`, `group { ... }` and `list: [ ... ]`, texts in double quotes."


def parse(text: str, *, source: str = "config.pbtxt") -> ModelConfig:
    """Read the text of a ``config.pbtxt``.

    Parameters
    ----------
    text
        The text.
    source
        What errors call it, such as the file's path.

    Raises
    ------
    ModelConfigError
        The text does not follow Triton's schema: with line, column, the line itself, and the nearest right word.
    """
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise _explained(error, text, source) from error


def read(path: Path) -> ModelConfig:
    """Read a ``config.pbtxt`` file.

    Raises
    ------
    ModelConfigError
        The file cannot be read, or as in `parse`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelConfigError(f"{path} cannot be read: {error}.") from error
    return parse(text, source=str(path))


def to_text(config: ModelConfig) -> str:
    """Return a config as the text of a ``config.pbtxt``."""
    return str(text_format.MessageToString(config, as_utf8=True))


def merge(config: ModelConfig, overrides: Mapping[str, Any], *, source: str = "The config") -> ModelConfig:
    """Return a config in which Triton keys from a spec replace the same top-level keys.

    Parameters
    ----------
    config
        The model's own config; it is not changed.
    overrides
        Triton's keys with plain values: mappings for groups and maps, lists for repeated fields, names for enums.
    source
        What errors call the overrides.

    Raises
    ------
    ModelConfigError
        With every key or value that does not follow Triton's schema, by its dotted path.
    """
    problems: list[str] = []
    _check_group(ModelConfig.DESCRIPTOR, overrides, "", problems)
    merged = ModelConfig()
    merged.CopyFrom(config)
    if not problems:
        for key in overrides:
            merged.ClearField(key)
        try:
            json_format.ParseDict(overrides, merged)
        except json_format.ParseError as error:  # what only it sees: a number out of range, two of one choice
            problems.append(str(error))
    if problems:
        raise ModelConfigError(
            f"{source} does not follow Triton's model configuration:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    return merged


def from_json(config: Mapping[str, Any]) -> ModelConfig:
    """Return what Triton's ``/config`` answers as a config that Triton takes back, for a model of any name.

    What Triton fills in by itself is left out: the model's name and names made of it, the default version policy,
    pinned memory and model file; the runtime too, where it is the backend's own, because that differs between the
    embedded server's backends and those of NVIDIA's container.

    Parameters
    ----------
    config
        The JSON, as plain values.

    Raises
    ------
    ModelConfigError
        It holds a field that this schema does not know.
    """
    message = ModelConfig()
    try:
        json_format.ParseDict(config, message)
    except json_format.ParseError as error:
        raise ModelConfigError(
            f"The configuration of {config.get('name', 'the model')!r} cannot be read: {error}.",
            hint="a server that is newer than the installed tritonclient has fields that it does not know: upgrade it.",
        ) from error
    for index, group in enumerate(message.instance_group):
        if group.name in (message.name, f"{message.name}_{index}"):
            group.ClearField("name")
    if message.version_policy == _DEFAULTS.version_policy:
        message.ClearField("version_policy")
    for memory in ("input_pinned_memory", "output_pinned_memory"):
        if getattr(message.optimization, memory) == getattr(_DEFAULTS.optimization, memory):
            message.optimization.ClearField(memory)
    if not message.optimization.ByteSize():
        message.ClearField("optimization")
    if message.runtime in ("model.py", f"libtriton_{message.backend}.so"):
        message.ClearField("runtime")
    if message.default_model_filename == _DEFAULT_FILES.get(message.backend):
        message.ClearField("default_model_filename")
    message.ClearField("name")
    return message


def _explained(error: text_format.ParseError, text: str, source: str) -> ModelConfigError:
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    # protobuf puts "line:column : 'the whole line': " before the reason; here each stands in its own place.
    reason = re.sub(r"^\d+:\d+ : ", "", str(error))
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines)) - 1]
    reason = reason.removeprefix(f"'{shown}': ").rstrip(".")
    hint = _SYNTAX_HINT if reason.startswith(("Expected", "String")) else ""
    if text.lstrip().startswith("{"):
        hint = "this is JSON, as Triton's /config answers it; `%triton_config NAME --pbtxt` prints it as config.pbtxt."
    elif found := _PLACEHOLDER.search(shown, column - 1):
        hint = f"{found[0]} is a template's placeholder: write the value in its place."
    elif re.search(r"(?:parse integer|number|message): ?\]|got \]", reason):
        hint = "no comma after a list's last value."
    pool = ModelConfig.DESCRIPTOR.file.pool
    if found := _UNKNOWN_FIELD.search(reason):
        known = pool.FindMessageTypeByName(found["type"]).fields_by_name
        where = "a model's configuration" if found["type"].endswith(".ModelConfig") else found["type"].partition(".")[2]
        reason, hint = f"{where} has no field {found['word']!r}", nearest(found["word"], known)
    elif found := _UNKNOWN_VALUE.search(reason):
        known = pool.FindEnumTypeByName(found["type"]).values_by_name
        reason, hint = f"{found['word']!r} is no {found['type'].partition('.')[2]}", nearest(found["word"], known)
        if found["word"] in known:
            reason, hint = f"{found['word']} in quotes is text", f"write {found['word']} without quotes."
    # A tab must stay a tab before the caret, or it points beside the mark.
    margin = "".join(sign if sign == "\t" else " " for sign in shown[: column - 1])
    return ModelConfigError(f"{source}, line {line}, column {column}: {reason}.\n  {shown}\n  {margin}^", hint=hint)


def _check_group(descriptor: Any, values: object, path: str, problems: list[str]) -> None:
    """Note whatever in a mapping does not fit a message of the schema."""
    if not isinstance(values, Mapping):
        problems.append(f"{path}: expected keys below it ({', '.join(descriptor.fields_by_name)}), got {values!r:.60}")
        return
    for key, value in values.items():
        dotted = f"{path}.{key}" if path else str(key)
        field = descriptor.fields_by_name.get(str(key))
        if field is None:
            guess = nearest(str(key), descriptor.fields_by_name).rstrip(".")
            problems.append(f"unknown key {dotted!r} ({guess})")
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            _check_map(field.message_type.fields_by_name["value"], value, dotted, problems)
        elif field.is_repeated:
            _check_list(field, value, dotted, problems)
        else:
            _check_value(field, value, dotted, problems)


def _check_map(field: Any, values: object, path: str, problems: list[str]) -> None:
    if not isinstance(values, Mapping):
        problems.append(f"{path}: expected a mapping of names, got {values!r:.60}")
        return
    for key, value in values.items():
        _check_value(field, value, f"{path}.{key}", problems)


def _check_list(field: Any, values: object, path: str, problems: list[str]) -> None:
    if not isinstance(values, list | tuple):
        problems.append(f"{path}: expected a list, got {values!r:.60}")
        return
    for index, value in enumerate(values):
        _check_value(field, value, f"{path}[{index}]", problems)


def _check_value(field: Any, value: object, path: str, problems: list[str]) -> None:
    if value is None:
        problems.append(f"{path} has no value" + ("; {} stands for its defaults" if field.message_type else ""))
    elif field.message_type is not None:
        _check_group(field.message_type, value, path, problems)
    elif field.enum_type is not None:
        if value not in field.enum_type.values_by_name:
            guess = nearest(str(value), field.enum_type.values_by_name).rstrip(".")
            problems.append(f"{path}: {value!r} is no {field.enum_type.name} ({guess})")
    else:
        wanted, types = _SCALARS[field.cpp_type]
        # True is an int to Python, and never meant as one here.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            problems.append(f"{path}: expected {wanted}, got {value!r:.60}")


# What Triton (core, model_config_utils.cc, SetDefault...) writes where a config says nothing.
_DEFAULTS = ModelConfig(
    version_policy={"latest": {"num_versions": 1}},
    optimization={"input_pinned_memory": {"enable": True}, "output_pinned_memory": {"enable": True}},
)
_DEFAULT_FILES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
}
_WHOLE = ("a whole number", (int,))
_NUMBER = ("a number", (int, float))
_SCALARS: dict[int, tuple[str, tuple[type, ...]]] = {
    FieldDescriptor.CPPTYPE_INT32: _WHOLE,
    FieldDescriptor.CPPTYPE_INT64: _WHOLE,
    FieldDescriptor.CPPTYPE_UINT32: _WHOLE,
    FieldDescriptor.CPPTYPE_UINT64: _WHOLE,
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBER,
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBER,
    FieldDescriptor.CPPTYPE_BOOL: ("true or false", (bool,)),
    FieldDescriptor.CPPTYPE_STRING: ("text (put it in quotes)", (str,)),
}
