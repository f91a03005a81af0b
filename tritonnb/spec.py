"""What is to be served and how: one description for every engine, from YAML, a file or Python arguments.

``Spec.from_yaml``, ``from_file`` and ``from_options`` check all keys at once, name every problem (in YAML by
line and column), and accept Azure ML's words beside ours. The sections' keys are in ``spec_sections.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, Field, PlainValidator, ValidationError, ValidationInfo, field_validator

from tritonnb.errors import SpecError, nearest
from tritonnb.located_yaml import KeyPath, Position, read_yaml
from tritonnb.spec_sections import (
    MODEL_NAME,
    REGISTERED,
    Engine,
    Environment,
    Gpus,
    Kubernetes,
    ModelPath,
    ModelSource,
    Resources,
    Restart,
    Score,
    Section,
    Server,
    Switch,
    choice,
    gpu_choice,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


# Options have no lines.
_NOWHERE: Position = (0, 0)

# The strictest of what a name becomes: a Kubernetes Service (RFC 1035 label), a container, a folder.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

# Azure ML's words for fields of ours.
_AZURE_WORDS: dict[str, tuple[str, ...]] = {
    "auth_enabled": ("auth",),
    "cpu_cores": ("resources", "cpu_cores"),
    "memory_gb": ("resources", "memory_gb"),
    "gpu_cores": ("resources", "gpu_cores"),
    "environment_variables": ("environment", "variables"),
    "entry_script": ("score", "entry_script"),
    "source_directory": ("score", "source_directory"),
    "port": ("score", "port"),  # the server's own where there is no entry script
}


class Spec(Section):
    """What is to be served and how.

    Parameters
    ----------
    name
        The deployment's name: 1 to 63 of a-z, 0-9 and ``-``, from a letter to a letter or digit.
        Where it is left out, it is taken from the first model or folder.
    models
        Models under names of their own. In YAML and options ``models`` may also be a path or a list of paths,
        which means all that is found there, and is kept in ``repository``.
    repository
        The folders and files from which every model found is served, absolute, and registered models as
        ``NAME:VERSION``.
    """

    name: str = ""
    models: dict[str, ModelSource] = Field(default={})
    repository: tuple[ModelPath, ...] = ()
    engine: Annotated[Engine, choice(Engine)] = "auto"
    gpus: Annotated[Gpus, PlainValidator(gpu_choice)] = "auto"
    resources: Resources = Resources()
    server: Server = Server()
    auth: Switch = False
    keep: Switch = False
    restart: Annotated[Restart, choice(Restart)] = "never"
    environment: Environment = Environment()
    score: Score | None = None
    kubernetes: Kubernetes = Kubernetes()

    @field_validator("name")
    @classmethod
    def _name_suits_dns(cls, name: str) -> str:
        if name and not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name for a deployment: it becomes a container's and a DNS name, so it"
                " is 1 to 63 of a-z, 0-9 and '-', from a letter to a letter or digit,"
                f" such as {_deployment_name(name)!r}"
            )
        return name

    @field_validator("models")
    @classmethod
    def _names_are_legal(cls, models: dict[str, ModelSource]) -> dict[str, ModelSource]:
        for name in models:
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a model: use letters, digits, '.', '_' and '-'")
        return models

    @field_validator("score")
    @classmethod
    def _its_port_is_not_tritons(cls, score: Score | None, info: ValidationInfo) -> Score | None:
        server = info.data.get("server")
        if score and score.port and server:
            taken = {"http_port": server.http_port, "grpc_port": server.grpc_port, "metrics_port": server.metrics_port}
            for key in (key for key, port in taken.items() if port == score.port):
                raise ValueError(
                    f"port {score.port} is the entry script's and, by server.{key}, Triton's own: leave that one out,"
                    " or give the script another (`--score-port`; 0 is a free one)"
                )
        return score

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "<cell>", base: Path | None = None) -> Spec:
        """Read a spec from YAML.

        Parameters
        ----------
        text
            The YAML document.
        source
            What errors call the text.
        base
            The folder that relative paths start from; the current one where it is None.

        Raises
        ------
        SpecError
            With all problems of the text, one a line, by line and column.
        """
        located = read_yaml(text)
        problems: list[Problem] = [*located.problems]
        value = located.value
        if value is None:
            value = {}
        elif not isinstance(value, dict):
            problems.append(((1, 1), f"expected keys such as 'models: PATH' (mind the space), got {value!r:.60}"))
            value = {}
        return _build(value, located.positions, problems, source, base)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Spec:
        """Read a spec from a YAML file, whose folder its relative paths start from.

        Raises
        ------
        SpecError
            The file cannot be read, or as in `from_yaml`.
        """
        file = Path(path).expanduser().absolute()
        try:
            text = file.read_text(encoding="utf-8-sig")
        except FileNotFoundError as error:
            siblings = [sibling.name for sibling in file.parent.glob("*.y*ml")]
            raise SpecError(f"There is no file {file}.", hint=nearest(file.name, siblings)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{file} cannot be read as a YAML file: {error}.") from error
        return cls.from_yaml(text, source=str(path), base=file.parent)

    @classmethod
    def from_options(cls, *, base: Path | None = None, **options: Any) -> Spec:
        """Make a spec of Python arguments: the YAML's keys, with mappings for its sections.

        Parameters
        ----------
        base
            As in `from_yaml`.
        options
            The spec's keys. None means not given.

        Raises
        ------
        SpecError
            With all problems, one a line.
        """
        return _build(options, {}, [], "The options", base)

    def replace(self, *, base: Path | None = None, **changes: Any) -> Spec:
        """Return a spec with some keys changed.

        Parameters
        ----------
        base
            As in `from_yaml`.
        changes
            As the options of `from_options`. A mapping for a section (``server``, ``resources``,
            ``environment``, ``score``, ``kubernetes``) changes the keys that it names; every other key is
            replaced as a whole. ``score=None`` takes the entry script away.

        Raises
        ------
        SpecError
            With all problems, one a line.
        """
        problems: list[Problem] = []
        if self.score is not None:  # so that a `port` is the script's
            changes = {"score": {}, **changes}
        changed = _in_our_words(changes, {}, problems)
        if "models" in changes and "models" not in changed and "repository" in changed:
            changed["models"] = {}
        values = _fields(self)
        if "score" not in changed and "score" in changes:
            values["score"] = None
        for key, change in changed.items():
            current = values.get(key)
            merge = isinstance(current, Section) and isinstance(change, Mapping)
            values[key] = {**_fields(current), **change} if merge else change
        return _build(values, {}, problems, "The changes", base)

    def given(self) -> dict[str, Any]:
        """Return what was said of this spec, but for its name: the changes to `replace` in another with them."""
        said: dict[str, Any] = {key: getattr(self, key) for key in self.model_fields_set - {"name"}}
        if said.keys() & {"models", "repository"}:  # they are given in place of the other's models, wherever those are
            said |= {"models": self.models, "repository": self.repository}
        return {key: _said(value) if isinstance(value, Section) else value for key, value in said.items()}

    def to_yaml(self) -> str:
        """Return the spec as YAML: its name and whatever differs from the defaults, with absolute paths.

        ``Spec.from_yaml(spec.to_yaml()) == spec``.
        """
        values = _plain(self.model_dump(exclude_defaults=True))
        if len(self.repository) == 1:
            [values["repository"]] = values["repository"]
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        # PyYAML 6 folds these three inside of a text when it writes them as they are; escaped they survive.
        if any(sign in text for sign in "\x85\u2028\u2029"):
            text = yaml.safe_dump(values, sort_keys=False)
        return text


def _said(section: Section) -> dict[str, Any]:
    return {key: getattr(section, key) for key in section.model_fields_set}


def _plain(value: Any) -> Any:
    """Return a value made only of what YAML writes without tags."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


Problem = tuple[Position, str]


def _fields(section: BaseModel | None) -> dict[str, Any]:
    return {} if section is None else {key: getattr(section, key) for key in type(section).model_fields}


def _build(
    values: Mapping[str, Any],
    positions: dict[KeyPath, Position],
    problems: list[Problem],
    source: str,
    base: Path | None,
) -> Spec:
    """Check values and make a spec of them, or raise all their problems in one error."""
    checked = _in_our_words(values, positions, problems)
    spec = None
    try:
        spec = Spec.model_validate(checked, context={"base": base})
    except ValidationError as error:
        problems += [_problem(detail, positions) for detail in error.errors()]
    if problems or spec is None:
        lines = [f"  {_at(position)}{text}" for position, text in sorted(problems, key=lambda found: found[0])]
        raise SpecError(f"{source} cannot be used:\n" + "\n".join(lines))
    return spec if spec.name else spec.model_copy(update={"name": _name_for(spec)})


def _in_our_words(
    values: Mapping[str, Any], positions: dict[KeyPath, Position], problems: list[Problem]
) -> dict[str, Any]:
    """Return the values without empty keys, with Azure ML's words and paths in ``models`` in their places."""
    ours = {key: value for key, value in values.items() if value is not None}
    for word, target in _AZURE_WORDS.items():
        if word not in ours:
            continue
        value = ours.pop(word)
        if word == "port" and "score" not in ours:
            target = ("server", "http_port")  # noqa: PLW2901  (the only word with two meanings)
        parent = ours
        if len(target) > 1:
            section = ours.get(target[0], {})
            if isinstance(section, BaseModel):
                section = _fields(section)
            elif not isinstance(section, Mapping):
                continue  # the section's own error is enough
            parent = ours[target[0]] = dict(section)
        if parent.get(target[-1]) is not None:
            same = f"{word} and {'.'.join(target)} are the same: give one"
            problems.append((positions.get((word,), _NOWHERE), same))
        parent[target[-1]] = value
        positions[target] = positions.get((word,), _NOWHERE)
    if isinstance(ours.get("models"), str | os.PathLike | list | tuple):
        found = _listed(ours.pop("models"))
        both = _listed(ours.get("repository", ()))
        ours["repository"] = [*found, *both]
        positions.setdefault(("repository",), positions.get(("models",), _NOWHERE))
        positions |= {
            ("repository", index): positions[place]
            for index in range(len(found))
            for place in [("models", index)]
            if place in positions
        }
    elif isinstance(ours.get("repository"), str | os.PathLike):
        ours["repository"] = [ours["repository"]]
    return ours


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "float_type": "a number",
    "int_type": "a whole number",
    "path_type": "a path",
    "string_type": "text (put it in quotes)",
    "tuple_type": "a list",
}


def _problem(detail: ErrorDetails, positions: dict[KeyPath, Position]) -> Problem:
    """Say one of pydantic's errors in a line of our own."""
    path = tuple(part for part in detail["loc"] if part != "[key]")
    position = next((positions[path[:n]] for n in range(len(path), 0, -1) if path[:n] in positions), _NOWHERE)
    dotted = ".".join(map(str, path))
    kind, got = detail["type"], f"{detail['input']!r:.60}"
    section: type[BaseModel] = Spec
    for part in path[:-1] if kind == "extra_forbidden" else path:
        section = _SECTIONS.get(str(part), section)
    if kind == "extra_forbidden":
        text = f"unknown key {dotted!r} ({nearest(str(path[-1]), section.model_fields).rstrip('.')})"
    elif kind == "missing":
        of_a_cell = " (for a script in a cell, give `%%triton_score` these)"
        text = f"{dotted} is missing{of_a_cell if dotted == 'score.entry_script' else ''}"
    elif kind == "value_error":
        text = f"{dotted}: {detail['ctx']['error']}"
    elif kind == "model_type" and path[0] == "models":
        text = f"{dotted}: expected a path, or 'path' and Triton's keys below it, got {got}"
    elif kind == "model_type":
        text = f"{dotted}: expected keys below it ({', '.join(section.model_fields)}), got {got}"
    elif kind in _EXPECTED:
        text = f"{dotted}: expected {_EXPECTED[kind]}, got {got}"
    else:
        text = f"{dotted}: {detail['msg'].replace('Input should', 'must')}, got {got}"
    return position, text


def _at(position: Position) -> str:
    return "" if position == _NOWHERE else f"line {position[0]}, column {position[1]}: "


_SECTIONS: dict[str, type[BaseModel]] = {
    "resources": Resources,
    "server": Server,
    "environment": Environment,
    "score": Score,
    "kubernetes": Kubernetes,
}


def _name_for(spec: Spec) -> str:
    """Return a name taken from the first model or folder of a spec."""
    if spec.models:
        return _deployment_name(next(iter(spec.models)))
    if not spec.repository:
        return _deployment_name("")
    registered = REGISTERED.fullmatch(str(spec.repository[0]))
    return _deployment_name(registered["name"] if registered else spec.repository[0].stem)


def _deployment_name(text: str) -> str:
    """Return the nearest legal deployment name to a text."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name:
        return "triton"
    return (name if name[0].isalpha() else f"m-{name}")[:63].rstrip("-")
