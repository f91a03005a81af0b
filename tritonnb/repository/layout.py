"""Finding the models in what a person has: a file, a folder, a whole repository.

Recognised, with clutter (hidden files, notebook checkpoints, caches, editors' backups) passed over::

    net.onnx                                    one file, served as version 1
    net/model.onnx                              a folder with one ONNX file (and its external data)
    net/1/model.onnx, net/1/model.py, ...       a model's directory, with or without config.pbtxt
    models/net/1/model.onnx                     a Triton repository, also Azure ML's v2 layout
    models/triton/net/1/model.onnx              Azure ML's v1 layout, given models or models/triton

The rules for version folders are Triton's (core, model_lifecycle.cc): a positive integer without leading zeros;
others are left out by the server without an error, so they are one here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.errors import RepositoryError, nearest
from tritonnb.spec_sections import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tritonnb.spec import Spec

_CLUTTER = {"__pycache__", "__MACOSX", "Thumbs.db", "desktop.ini", "lost+found"}
_VERSION = re.compile(r"[1-9][0-9]*")
# What people name a version folder with when they don't know that Triton wants 1, 2, 3.
_MEANT_AS_VERSION = re.compile(r"(v|ver|version|rev)?[-_.]?\d+([-_.]\d+)*|latest|current|stable", re.IGNORECASE)
_MODEL_SUFFIXES = {".onnx", ".py", ".pt", ".pt2", ".plan", ".xml", ".savedmodel", ".graphdef", ".json"}
_ENSEMBLE = re.compile(r"^\s*(ensemble_scheduling\b|platform\s*:\s*[\"']ensemble)", re.MULTILINE)
_MOST_SHOWN = 8

_REPOSITORY_TREE = """lay the models out like this:
  models/
  └── NAME/
      ├── config.pbtxt        (optional for ONNX)
      └── 1/
          └── model.onnx      (or model.py, model.pt, model.plan, ...)"""


@dataclass(frozen=True)
class Model:
    """A model that was found.

    Parameters
    ----------
    name
        The name that it will be served under.
    versions
        Its versions, ascending.
    source
        The ONNX file, or the model's directory; an empty path for a model in memory.
    layout
        What was recognised: ``file``, ``folder`` (with one ONNX file), ``model`` (a model's directory),
        ``repository``, ``triton`` (Azure ML's ``models/triton``) or ``memory``.
    content
        The ONNX file's bytes for a model in memory.
    problem
        Why Triton would refuse it, while its neighbours can be served.
    """

    name: str
    versions: tuple[int, ...]
    source: Path
    layout: str
    content: bytes = field(default=b"", repr=False)
    problem: RepositoryError | None = None


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is none of the model's."""
    return name.startswith((".", "#")) or name.endswith(("~", ".bak", ".orig")) or name in _CLUTTER


def is_version(name: str) -> bool:
    """Return whether Triton takes a folder of this name as a version."""
    return bool(_VERSION.fullmatch(name))


def find_models(path: str | os.PathLike[str]) -> tuple[Model, ...]:
    """Return the models that are found at a path, by name.

    Parameters
    ----------
    path
        An ``.onnx`` file, a model's directory or a folder of models.

    Returns
    -------
    tuple of Model
        A model of a repository that Triton would refuse carries its `problem`, so that the others can be served.

    Raises
    ------
    RepositoryError
        The path is missing, holds no model, or only such as Triton would refuse; two models have one name.
    """
    root = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  (resolve() would follow the user's links)
    try:
        models = _find(root)
    except OSError as error:
        raise RepositoryError(f"{error.filename} cannot be read: {error.strerror}.") from error
    if not models:
        raise _nothing_found(root)
    if all(model.problem for model in models) and models[0].problem:
        raise models[0].problem
    return _unique(models)


def models_of(spec: Spec) -> tuple[Model, ...]:
    """Return all models that a spec names: those found in its repository, and those under names of their own.

    Raises
    ------
    RepositoryError
        As in `find_models`; a path under ``models`` holds more than one model.
    """
    models = [model for path in spec.repository for model in find_models(path)]
    for name, source in spec.models.items():
        found = find_models(source.path)
        if len(found) > 1:
            names = ", ".join(model.name for model in found)
            raise RepositoryError(
                f"{source.path} holds {len(found)} models ({names}), and {name!r} can be only one of them.",
                hint=f"name one model's directory, or serve all of them with `models: {source.path}`.",
            )
        models.append(replace(found[0], name=name))
    return _unique(models)


def in_memory(model: object, name: str) -> Model:
    """Return a model made of an ONNX model in memory.

    Parameters
    ----------
    model
        The bytes of an ONNX file, or an ``onnx.ModelProto``.
    name
        The name that it will be served under.

    Raises
    ------
    RepositoryError
        There are no bytes, or it is something else; the name cannot be a model's.
    """
    if not MODEL_NAME.fullmatch(name):
        raise RepositoryError(f"{name!r} is no name for a model.", hint="use letters, digits, '.', '_' and '-'.")
    try:
        if isinstance(model, bytes | bytearray | memoryview):
            content = bytes(model)
        elif serialize := getattr(model, "SerializeToString", None):
            content = serialize()
        else:
            raise RepositoryError(
                f"A model cannot be made of {type(model).__name__}.",
                hint="give a path, the bytes of an ONNX file or an onnx.ModelProto.",
            )
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise RepositoryError(
            f"Model {name!r} cannot be serialized: {error}.",
            hint="save it with onnx.save_model(..., save_as_external_data=True) and deploy its folder.",
        ) from error
    if not content:
        raise RepositoryError(f"Model {name!r} is empty.", hint="give the bytes of an ONNX file.")
    return Model(name, (1,), Path(), "memory", content)


def _find(root: Path) -> list[Model]:
    if root.is_file():
        return [_single_file(root)]
    if not root.exists():
        raise _missing(root)
    if not root.is_dir():
        raise RepositoryError(f"{root} is neither a file nor a folder.", hint=_REPOSITORY_TREE)
    if (model := _directory(root, "model")) is not None:
        return [model]
    loose = _onnx_files(root)
    models = [_folder(loose[0])] if len(loose) == 1 else [_single_file(file) for file in loose]
    for child in _folders(root):
        if (model := _directory(child, "triton" if root.name == "triton" else "repository")) is not None:
            models.append(model)
        elif child.name == "triton":
            below = (_directory(grandchild, "triton") for grandchild in _folders(child))
            models += [model for model in below if model is not None]
        elif len(files := _onnx_files(child)) == 1:
            models.append(_folder(files[0]))
    return models


def _single_file(file: Path) -> Model:
    if file.suffix.lower() != ".onnx":
        raise RepositoryError(
            f"{file} is no ONNX file, and only those can be served without a folder of their own.",
            hint=_REPOSITORY_TREE,
        )
    return Model(_name_of(file), (1,), file, "file")


def _directory(path: Path, layout: str) -> Model | None:
    """Return the model whose directory this is; None where it is none."""
    folders = _folders(path)
    versions = sorted(int(folder.name) for folder in folders if is_version(folder.name))
    has_config = (path / "config.pbtxt").is_file()
    # Numbered folders alone may be anything, such as pictures by class.
    certain = has_config or any(_meant_for_model(path / str(version)) for version in versions)
    misnamed = _misnamed_versions(folders, certain=certain)
    if not (certain or misnamed):
        return None
    problem = None
    if misnamed:
        problem = RepositoryError(
            f"Model {path.name!r} has a folder {misnamed[0]!r}, which Triton would pass over: it is no positive"
            " integer.",
            hint=f"rename it: {path / _suggested_version(misnamed[0], versions)}/model.onnx.",
        )
    elif has_config and not versions and not _is_ensemble(path / "config.pbtxt"):
        problem = RepositoryError(
            f"Model {path.name!r} has no version folder; seen in {path}: {_seen(path)}.", hint=_model_tree(path)
        )
    elif not has_config and not any(_model_files(path / str(version)) for version in versions):
        seen = _seen(path / str(versions[0]))
        problem = RepositoryError(
            f"Model {path.name!r} has no model file in version {versions[0]}; seen there: {seen}.",
            hint=_model_tree(path),
        )
    return Model(path.name, tuple(versions) or (1,), path, layout, problem=problem)


def _folder(file: Path) -> Model:
    return Model(_name_of(file, in_folder=True), (1,), file, "folder")


def _name_of(file: Path, *, in_folder: bool = False) -> str:
    """Return an ONNX file's name as a model: its stem, but the folder's where that is only Triton's ``model``."""
    name, folder = file.stem, file.parent
    if name == "model":
        if folder.name == file.name:  # model.onnx/model.onnx, Triton's form for external data
            folder = folder.parent
        if is_version(folder.name):
            name = folder.parent.name
        elif in_folder:
            name = folder.name.removesuffix(".onnx")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "model"


def _entries(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if not is_clutter(entry.name))


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir()]


def _onnx_files(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.suffix.lower() == ".onnx" and entry.is_file()]


def _model_files(version: Path) -> list[str]:
    """Return what Triton would look for there: the names of its model files all begin with ``model.``."""
    return [entry.name for entry in _entries(version) if entry.name.startswith("model.")]


def _meant_for_model(version: Path) -> bool:
    entries = _entries(version)
    return not entries or any(entry.suffix in _MODEL_SUFFIXES for entry in entries)


def _misnamed_versions(folders: list[Path], *, certain: bool) -> list[str]:
    """Return the folders that Triton would pass over though they are meant as versions.

    In what is `certain` to be a model's directory the name or a model file tells; else it takes both.
    """
    tells = any if certain else all
    return [
        folder.name
        for folder in folders
        if not is_version(folder.name)
        and tells((_MEANT_AS_VERSION.fullmatch(folder.name) is not None, bool(_model_files(folder))))
    ]


def _suggested_version(name: str, taken: list[int]) -> str:
    digits = re.search(r"[1-9]\d*", name)
    number = int(digits[0]) if digits else 1
    return str(number if number not in taken else max(taken) + 1)


def _is_ensemble(config: Path) -> bool:
    """Return whether a model is made of other models, and so needs no folder for files (git keeps no empty one)."""
    return bool(_ENSEMBLE.search(config.read_text(encoding="utf-8", errors="replace")))


def _unique(models: Iterable[Model]) -> tuple[Model, ...]:
    by_name: dict[str, Model] = {}
    for model in models:
        if model.name in by_name:
            raise RepositoryError(
                f"Two models are named {model.name!r}: {by_name[model.name].source} and {model.source}.",
                hint="rename one of them, or give each a name of its own in a spec: `models: {NAME: PATH}`.",
            )
        by_name[model.name] = model
    return tuple(by_name[name] for name in sorted(by_name))


def _missing(path: Path) -> RepositoryError:
    parent = path.parent
    if not parent.is_dir():
        return RepositoryError(f"There is no {path}; not even its folder {parent} exists.")
    siblings = [entry.name for entry in _entries(parent)]
    return RepositoryError(f"There is no {path.name!r} in {parent}.", hint=nearest(path.name, siblings))


def _nothing_found(root: Path) -> RepositoryError:
    seen = f"No model was found in {root}; seen there: {_seen(root)}."
    for folder in _folders(root):
        try:
            below = _find(folder)
        except (RepositoryError, OSError):
            continue
        if below:
            return RepositoryError(seen, hint=f"there is {below[0].name!r} further down: deploy {folder}.")
    return RepositoryError(seen, hint=_REPOSITORY_TREE)


def _seen(path: Path) -> str:
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in _entries(path)]
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more if names else "nothing"


def _model_tree(path: Path) -> str:
    return f"lay the model out like this:\n  {path.name}/\n  └── 1/\n      └── model.onnx      (or model.py, ...)"
