"""Staging: a repository of tritonnb's own, made of the user's files and kept in step with them.

The user's files are never changed and never opened for writing: whatever is written here is a new file that takes
the old one's place by a rename, because an old one may be a hard link, and so be the user's file itself.

Which files are linked. A hard link is the user's file under a second name, so an edit in place (``%%writefile``,
``onnx.save``) reaches the repository before the user asks for it. Triton reads a file only while it loads a model,
but a server that is started again, or an instance added, would then take up a half-made edit. So small files, the
ones that people edit (``config.pbtxt``, ``model.py``, labels), are copied, which costs nothing, and take effect on the
next staging; only large ones, the weights, are linked, for a copy of them costs time and room. What stays: weights
that are mapped into memory (ONNX's external data) and overwritten in place change under a running model. Saving
them under a new name, or into a file that is renamed afterwards, is safe.

What a notebook's cell holds of a model is laid over its sources: the code is its latest version's ``model.py``, the
text its ``config.pbtxt``.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tritonnb.errors import ModelConfigError, RepositoryError, TritonNbError, nearest
from tritonnb.repository.external_data import external_files
from tritonnb.repository.layout import Model, is_clutter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LINKED_FROM = 1 << 20  # bytes
# Never the name of a staged file, because such names are clutter.
_NEW = ".new~"

_CONFIG = PurePosixPath("config.pbtxt")
# What in a config decides who serves which file.
_BACKEND_KEYS = ("backend", "platform", "default_model_filename")


@dataclass(frozen=True)
class Staged:
    """What came of staging.

    Parameters
    ----------
    models
        The names of the models that are ready to be loaded, in order.
    problems
        Why each of the others is not, by name. What was staged of it before is left as it was.
    """

    models: tuple[str, ...]
    problems: Mapping[str, TritonNbError]


@dataclass(frozen=True)
class Cell:
    """What notebook cells hold of a model.

    Parameters
    ----------
    code
        A ``model.py`` for the Python backend.
    config
        A ``config.pbtxt``; it takes the place of the sources' and of the spec's keys. Kept by itself, for a model
        that has no files yet, it waits for them, unless it is an ensemble's.
    """

    code: str | None = None
    config: str | None = None


@dataclass
class _Plan:
    """What a model's staged directory must hold: files by their place, from a source or with a content, and folders."""

    files: dict[PurePosixPath, Path | bytes]
    folders: set[PurePosixPath]


def stage(
    models: Iterable[Model],
    target: Path,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    cells: Mapping[str, Cell] | None = None,
) -> Staged:
    """Make a folder hold exactly these models, each ``<target>/<name>/<version>/...``, as Triton wants them.

    May be called again at any time: files that changed are replaced, files and models that are gone are removed.

    Parameters
    ----------
    models
        What was found; a model with a `problem` of its own is not staged.
    target
        The repository's folder. All in it belongs to tritonnb. It is made where it is missing.
    configs
        Triton's keys by the model's name; they replace the same keys of the model's own ``config.pbtxt``.
    cells
        What cells hold, by the model's name; it wins over all else.

    Returns
    -------
    Staged
        A bad model does not keep the others from being staged.

    Raises
    ------
    RepositoryError
        The target itself cannot be written.
    """
    configs, cells = configs or {}, cells or {}
    found = {model.name: model for model in models}
    problems: dict[str, TritonNbError] = {
        name: RepositoryError(
            f"There are Triton keys for a model {name!r}, and no such model.", hint=nearest(name, found)
        )
        for name in configs
        if name not in found
    }
    found |= {name: _of_cells(name) for name, cell in cells.items() if name not in found and _stands_alone(cell)}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for entry in target.iterdir():
            if entry.name not in found:
                _remove(entry)
    except OSError as error:
        raise RepositoryError(f"{target} cannot be written: {error.strerror}.") from error
    for name, model in found.items():
        cell = cells.get(name, Cell())
        try:
            if model.problem and cell.code is None:
                raise model.problem
            _sync(_plan(model, configs.get(name, {}), cell), target / name)
        except TritonNbError as error:
            problems[name] = error
        except OSError as error:
            problems[name] = RepositoryError(f"Model {name!r} could not be staged: {error.filename}: {error.strerror}.")
    return Staged(tuple(name for name in found if name not in problems), problems)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a file appear in a second place, in a moment and without room where one file system holds both.

    A symbolic link is followed: the new name is a real file, which Triton asks for in its backend folders, and
    containers in what they mount. What was at the target is replaced.

    Parameters
    ----------
    source
        The file.
    target
        Its new place; folders on the way are made.

    Raises
    ------
    OSError
        Neither could be done.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(target.name + _NEW)
    new.unlink(missing_ok=True)
    real = source.resolve(strict=True)
    try:
        new.hardlink_to(real)
    except OSError:  # another file system, one without links, or fs.protected_hardlinks
        shutil.copy2(real, new)
    new.replace(target)
    new.unlink(missing_ok=True)  # rename(2) does nothing between two links to one file


def files_below(folder: Path) -> tuple[dict[PurePosixPath, Path], set[PurePosixPath]]:
    """Return the files of a folder that are a model's, by their place in it, and the folders in it.

    Clutter is passed over; links are followed.

    Raises
    ------
    RepositoryError
        A link leads nowhere or to a folder that it lies in, or there is something that is no file.
    """
    plan = _Plan({}, set())
    _walk(folder, PurePosixPath(), plan, ())
    return {place: file for place, file in plan.files.items() if isinstance(file, Path)}, plan.folders


def _of_cells(name: str) -> Model:
    return Model(name, (1,), Path(), "cell")


def _stands_alone(cell: Cell) -> bool:
    """Return whether a cell is a model by itself: code, or a configuration that makes a model of other models."""
    if cell.code is not None or cell.config is None:
        return cell.code is not None
    from tritonnb.repository import pbtxt  # noqa: PLC0415  (as in `_config`)

    config = pbtxt.parse(cell.config)
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def _plan(model: Model, overrides: Mapping[str, Any], cell: Cell) -> _Plan:
    version = PurePosixPath("1")
    plan = _Plan({}, {version})
    if model.layout == "cell":
        pass
    elif model.content:
        plan.files[version / "model.onnx"] = model.content
    elif model.source.is_dir():
        plan.folders = {PurePosixPath(str(number)) for number in model.versions}
        _walk(model.source, PurePosixPath(), plan, ())
    else:
        plan.files[version / "model.onnx"] = model.source
        for name in external_files(model.source):
            # A file that is missing is the server's to report: it knows which tensor wants it.
            if (beside := model.source.parent / name).is_file():
                plan.files.setdefault(version / name, beside)
    if cell.code is not None:
        plan.files[PurePosixPath(str(max(model.versions)), "model.py")] = cell.code.encode()
    config = _config(model, plan.files.get(_CONFIG), overrides, cell)
    if config is not None:
        plan.files[_CONFIG] = config
    plan.folders |= {parent for place in plan.files for parent in place.parents if parent.name}
    return plan


def _walk(folder: Path, place: PurePosixPath, plan: _Plan, above: tuple[Path, ...]) -> None:
    real = folder.resolve()
    if real in above:
        raise RepositoryError(f"{folder} is a link to a folder that it lies in.", hint="remove the link.")
    for entry in folder.iterdir():
        if is_clutter(entry.name):
            continue
        if entry.is_dir():
            plan.folders.add(place / entry.name)
            _walk(entry, place / entry.name, plan, (*above, real))
        elif entry.is_file():
            plan.files[place / entry.name] = entry
        else:
            seen = "a link to nothing" if entry.is_symlink() else "no regular file"
            raise RepositoryError(f"{entry} is {seen}.", hint="remove it, or put the file in its place.")


def _config(model: Model, file: Path | bytes | None, overrides: Mapping[str, Any], cell: Cell) -> bytes | None:
    """Check a model's config; return the text to write, or None where the model's own file, or none, will do."""
    if file is None and not overrides and cell == Cell():
        return None
    # Here, because it brings gRPC along (0.1 s), and a model without a config needs none of it.
    from tritonnb.repository import pbtxt  # noqa: PLC0415

    if cell.config is not None:
        own = pbtxt.parse(cell.config, source=f"The cell with the configuration of model {model.name!r}")
        overrides, place = {}, "the cell"
    else:
        own = pbtxt.read(file) if isinstance(file, Path) else pbtxt.parse("")
        place = str(model.source / _CONFIG)
    if cell.code is not None and not (cell.config is not None and (own.backend or own.platform)):
        # Else Triton would serve a model.onnx that lies beside the cell's code, or what the sources' config names.
        overrides = {key: value for key, value in overrides.items() if key not in _BACKEND_KEYS}
        overrides |= {"backend": "python"}
        for key in _BACKEND_KEYS:
            own.ClearField(key)
    merged = pbtxt.merge(own, overrides, source=f"What the spec says of model {model.name!r}")
    if merged.name not in ("", model.name, model.source.name):
        raise ModelConfigError(
            f"The configuration of model {model.name!r} names it {merged.name!r}, and Triton wants the name of its"
            " folder.",
            hint=f"take `name` out of {place}, or make it {model.name!r}.",
        )
    if merged.name:
        merged.name = model.name  # the folder's name, where the spec gave the model another one
    if merged != own:
        return pbtxt.to_text(merged).encode()
    return None if cell.config is None else cell.config.encode()


def _sync(plan: _Plan, target: Path) -> None:
    """Make a folder hold what the plan says, touching only what differs."""
    target.mkdir(exist_ok=True)
    for folder, folders, files in os.walk(target, topdown=False):
        here = Path(folder).relative_to(target)
        gone = [name for name in folders if PurePosixPath(here, name) not in plan.folders]
        gone += [name for name in files if PurePosixPath(here, name) not in plan.files]
        for name in gone:
            _remove(Path(folder, name))
    for place in sorted(plan.folders):
        (target / place).mkdir(exist_ok=True)
    for place, content in plan.files.items():
        if isinstance(content, bytes):
            _write(content, target / place)
        elif content.stat().st_size < _LINKED_FROM:
            _write(content.read_bytes(), target / place)
        elif not _same(content, target / place):
            link_or_copy(content, target / place)


def _write(content: bytes, target: Path) -> None:
    if not target.is_file() or target.read_bytes() != content:
        new = target.with_name(target.name + _NEW)
        new.write_bytes(content)
        new.replace(target)


def _same(source: Path, target: Path) -> bool:
    """Return whether a large target is the source under another name, or by size and time a copy of what it is."""
    if not target.is_file():
        return False
    ours, theirs = target.stat(), source.stat()
    if os.path.samestat(ours, theirs):
        return True
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
