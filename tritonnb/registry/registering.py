"""``register``, ``registered`` and the end of a registered model."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonnb import records
from tritonnb.errors import HomeError, Interrupted, RegistryError, RepositoryError, SpecError, nearest
from tritonnb.home import home
from tritonnb.registry import references, sample, store
from tritonnb.registry.copying import copy
from tritonnb.registry.model import RegisteredModel, RegisteredModels
from tritonnb.render.progress import Progress
from tritonnb.repository import Model, find_models
from tritonnb.repository.layout import is_version
from tritonnb.spec import Spec
from tritonnb.spec_sections import MODEL_NAME

# Azure ML's words for parameters of ours.
_AZURE_WORDS = {
    "model_path": "path",
    "model_name": "name",
    "model_framework": "framework",
    "sample_input_dataset": "sample_input",
}
# Azure ML's Model.Framework.
FRAMEWORKS = ("Custom", "TensorFlow", "ScikitLearn", "Onnx", "TfKeras", "PyTorch", "Multi")

Tags = Mapping[str, object] | Sequence[str]


def register(
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
    version: int | None = None,
    *,
    tags: Tags | None = None,
    description: str | None = None,
    framework: str | None = None,
    sample_input: object = None,
    **azure_words: Any,
) -> RegisteredModel:
    """Copy a model into the registry under a name, as its next version.

    The copy does not change when the original does. The name is the registry's; Triton serves what is in it under
    names of its own, those of the model's files and folders.

    Parameters
    ----------
    path
        An ``.onnx`` file, a model's directory, a Triton repository, the article's ``models`` folder with
        ``triton/NAME/1/model.onnx`` in it; or any file or folder, for an entry script to read.
    name
        1 to 255 letters, digits, ``.``, ``_`` and ``-``.
    version
        A number from 1; the next one where left out.
    tags
        Words to find it by: a mapping, or a list of ``TAG`` and ``TAG=VALUE``.
    description
        What it is, in a sentence.
    framework
        Azure ML's word: Custom, TensorFlow, ScikitLearn, Onnx, TfKeras, PyTorch or Multi.
    sample_input
        An input that it takes: arrays by input name, or whatever JSON can hold.
    **azure_words
        ``model_path``, ``model_name``, ``model_framework`` and ``sample_input_dataset`` for the words above.

    Raises
    ------
    SpecError
        A parameter is wrong.
    RegistryError
        The version is taken.
    RepositoryError
        There is no such path, or it has links that lead nowhere.
    HomeError
        It could not be written, such as for want of room; nothing was registered.
    Interrupted
        Ctrl-C; nothing was registered.
    """
    given = {"path": path, "name": name, "framework": framework or None, "sample_input": sample_input}
    given = _in_our_words({key: value for key, value in given.items() if value is not None}, azure_words)
    source = _source(given.get("path"))
    name = _checked_name(given.get("name"))
    if version is not None and (type(version) is not int or not 1 <= version < 1 << 63):
        raise SpecError(f"{version!r} is no version.", hint="give a whole number from 1, or leave it out.")
    chosen_tags, chosen_framework = _tags(tags), _framework(given.get("framework"))
    content = None if given.get("sample_input") is None else sample.write(given["sample_input"])
    models = _servable(source)
    try:
        with Progress(f"Registering {name!r}") as progress, store.draft() as draft:
            copied = copy(source, _base(source, models), draft, progress.report)
            return store.publish(
                draft,
                name,
                version,
                place=copied.place,
                triton_models=tuple(_triton_name(model, name) for model in models),
                tags=chosen_tags,
                description=description or "",
                framework=chosen_framework,
                sha256=copied.sha256,
                size=copied.size,
                sample=content,
            )
    except KeyboardInterrupt:
        raise Interrupted(f"nothing was registered as {name!r}.") from None
    except OSError as error:
        raise _not_copied(name, error) from error


def registered(name: str | None = None, tags: Tags | None = None) -> RegisteredModels:
    """Return the registered models.

    Parameters
    ----------
    name
        Only the versions of this name; ``NAME:VERSION`` or ``NAME:latest`` for one of them.
    tags
        Only those that have all these tags: a mapping, or a list of ``TAG=VALUE`` and ``TAG`` with any value.

    Raises
    ------
    RegistryError
        There is no such name or version.
    """
    found = references.matching(name) if name is not None else store.versions()
    wanted = _tags(tags).items()
    any_value = set() if isinstance(tags, Mapping) else {tag for tag, value in wanted if not value}
    return RegisteredModels(
        model
        for model in found
        if all(tag in model.tags and (tag in any_value or model.tags[tag] == value) for tag, value in wanted)
    )


def delete(model: RegisteredModel) -> None:
    """Remove a version that no living deployment serves.

    Raises
    ------
    RegistryError
        A deployment serves it, or it is gone already.
    """
    for record in records.records():
        spec = Spec.from_yaml(record.spec)
        paths = [*spec.repository, *(source.path for source in spec.models.values())]
        if any(str(path) == model.id or path.is_relative_to(model.folder) for path in paths):
            raise RegistryError(
                f"Registered model {model.id!r} is deployed: {record.name!r} serves it (process {record.owner}).",
                hint=f"delete the deployment first: `%triton_delete {record.name}`, or `tritonnb stop {record.name}`.",
            )
    store.remove(model)


def _in_our_words(given: dict[str, Any], azure_words: Mapping[str, Any]) -> dict[str, Any]:
    for word, value in azure_words.items():
        if word not in _AZURE_WORDS:
            known = ("path", "name", "version", "tags", "description", "framework", "sample_input", *_AZURE_WORDS)
            raise SpecError(f"register() has no parameter {word!r}.", hint=nearest(word, known))
        if _AZURE_WORDS[word] in given:
            raise SpecError(f"{word} and {_AZURE_WORDS[word]} are the same: give one.")
        given[_AZURE_WORDS[word]] = value
    return given


def _source(path: object) -> Path:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise SpecError(f"{path!r} is no path.", hint="`register(path, name)`: a file or a folder.")
    return Path(os.path.abspath(Path(os.fspath(path)).expanduser()))  # noqa: PTH100  (resolve() would follow the user's links)


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        hint = "use letters, digits, '.', '_' and '-'; the version is a parameter of its own."
        raise SpecError(f"{name!r} is no name for a registered model.", hint=hint)
    return name


def _tags(tags: Tags | None) -> dict[str, str]:
    if isinstance(tags, Mapping):
        return {str(tag): str(value) for tag, value in tags.items()}
    words = [tags] if isinstance(tags, str) else tags or ()
    return {tag: value for tag, _, value in (word.partition("=") for word in words)}


def _framework(word: object) -> str:
    if word is None:
        return ""
    known = {framework.lower(): framework for framework in FRAMEWORKS}
    if str(word).lower() not in known:
        raise SpecError(f"{word!r} is none of Azure ML's frameworks.", hint=nearest(str(word), FRAMEWORKS))
    return known[str(word).lower()]


def _servable(source: Path) -> tuple[Model, ...]:
    """Return what Triton could serve of a path: nothing is no error, an entry script may read what it holds."""
    try:
        return tuple(model for model in find_models(source) if not model.problem)
    except RepositoryError:
        if not source.exists():
            raise
        return ()


def _base(source: Path, models: tuple[Model, ...]) -> Path:
    """Return the folder from which names are kept: above the model's where only its ``NAME/1`` was given."""
    file = models[0].source if len(models) == 1 else source
    if file.name == "model.onnx" and is_version(file.parent.name) and source in (file, file.parent):
        return file.parent.parent.parent
    return source.parent


def _triton_name(model: Model, name: str) -> str:
    """Return the name that the copy is served under: a lone model.onnx has none of its own."""
    return name if model.layout == "file" and model.name == "model" else model.name


def _not_copied(name: str, error: OSError) -> HomeError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    free = shutil.disk_usage(home()).free / 1e6
    return HomeError(
        f"{name!r} could not be registered: {error.strerror}{f': {error.filename}' if error.filename else ''}.",
        hint=f"{free:.0f} MB are free in {home()}; `tritonnb clean` removes what is not used." if full else "",
    )
