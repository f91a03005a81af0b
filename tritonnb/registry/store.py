"""The registry on disk: a table in SQLite, and the files of each version in a folder beside it.

::

    registry/registry.sqlite
    registry/models/NAME/VERSION/...      what was registered, under the name of its file or folder
    registry/drafts/PID-STARTED-xxxx/     what is being copied

What has no row is not registered, whatever lies in the folders. A version's folder gets its name by a rename under
the database's write lock, together with its row; so a process that is killed leaves a draft, or a folder without a
row, and both are removed by whoever registers next.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tritonnb.errors import HomeError, RegistryError
from tritonnb.home import home, home_folder
from tritonnb.registry import sample
from tritonnb.registry.model import RegisteredModel
from tritonnb.supervise import is_running, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: The layout of the tables; a database with a higher number is of a later release.
_LAYOUT = 1
#: How long another notebook may hold the lock, which it does for a rename and a row, in seconds.
_PATIENCE_S = 20.0
_DRAFT = re.compile(r"(?P<pid>\d+)-(?P<started>\d+)-\w+")
_TABLES = """
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS models (
    name TEXT NOT NULL, version INTEGER NOT NULL, place TEXT NOT NULL, triton_models TEXT NOT NULL,
    tags TEXT NOT NULL, description TEXT NOT NULL, framework TEXT NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, registered REAL NOT NULL, sample BLOB,
    PRIMARY KEY (name, version)
);
"""
_SELECT = """
SELECT name, version, place, triton_models, tags, description, framework, sha256, size, registered,
       (SELECT min(version) FROM models AS other
        WHERE other.name = models.name AND other.sha256 = models.sha256 AND other.version < models.version)
FROM models
"""


def names() -> list[str]:
    """Return the names of the registered models, in order."""
    with _connected() as database:
        return [name for (name,) in database.execute("SELECT DISTINCT name FROM models ORDER BY name")]


def versions(name: str | None = None) -> list[RegisteredModel]:
    """Return the versions of a model, the oldest first; without a name those of every model."""
    condition, values = ("WHERE name = ?", (name,)) if name is not None else ("", ())
    with _connected() as database:
        rows = database.execute(f"{_SELECT} {condition} ORDER BY name, version", values).fetchall()
    return [_model(row) for row in rows]


def sample_of(model: RegisteredModel) -> Any:
    """Return a version's sample input, or None where it has none."""
    with _connected() as database:
        row = database.execute(
            "SELECT sample FROM models WHERE name = ? AND version = ?", (model.name, model.version)
        ).fetchone()
    return sample.read(row[0]) if row and row[0] is not None else None


@contextmanager
def draft() -> Iterator[Path]:
    """Give a folder to copy into; what is still there afterwards was not registered and is removed."""
    drafts = home_folder("registry", "drafts")
    for left in list(drafts.iterdir()):
        owner = _DRAFT.fullmatch(left.name)
        if owner and not is_running(int(owner["pid"]), int(owner["started"])):
            shutil.rmtree(left, ignore_errors=True)
    folder = drafts / f"{os.getpid()}-{started(os.getpid())}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(
    draft: Path,
    name: str,
    version: int | None,
    *,
    place: str,
    triton_models: tuple[str, ...],
    tags: Mapping[str, str],
    description: str,
    framework: str,
    sha256: str,
    size: int,
    sample: bytes | None,
) -> RegisteredModel:
    """Make what was copied a version of a model, all at once.

    Parameters
    ----------
    draft
        The folder with the copy; it is moved.
    name, version
        What it is registered as; without a version the next one.
    place
        What of the folder is deployed: its file or folder.
    triton_models, tags, description, framework, sha256, size
        As in `RegisteredModel`.
    sample
        The sample input, written by `tritonnb.registry.sample`.

    Raises
    ------
    RegistryError
        The version is taken.
    """
    folder = home_folder("registry", "models", name)
    with _writing() as database:
        row = database.execute("SELECT last FROM numbers WHERE name = ?", (name,)).fetchone()
        last = row[0] if row else 0
        there = {n for (n,) in database.execute("SELECT version FROM models WHERE name = ?", (name,))}
        version = version or last + 1
        if version in there:
            raise RegistryError(
                f"Version {version} of {name!r} is registered already.",
                hint=f"leave the version out: it becomes {last + 1}.",
            )
        for left in folder.iterdir():  # of a process that was killed between the rename and the row, or while deleting
            if left.name not in {str(number) for number in there}:
                shutil.rmtree(left, ignore_errors=True)
        draft.rename(folder / str(version))
        try:
            database.execute(
                "INSERT INTO numbers VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET last = max(last, ?2)",
                (name, version),
            )
            lists = json.dumps(triton_models), json.dumps(dict(tags))
            texts = (description, framework, sha256)
            database.execute(
                f"INSERT INTO models VALUES ({','.join('?' * 11)})",  # noqa: S608  (question marks)
                (name, version, place, *lists, *texts, size, time.time(), sample),
            )
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                (folder / str(version)).rename(draft)
            raise
    return next(model for model in versions(name) if model.version == version)


def remove(model: RegisteredModel) -> None:
    """Remove a version: its row, and then its files.

    Raises
    ------
    RegistryError
        It is gone already.
    """
    with _writing() as database:
        removed = database.execute(
            "DELETE FROM models WHERE name = ? AND version = ?", (model.name, model.version)
        ).rowcount
    if not removed:
        raise RegistryError(f"{model.id!r} is not registered any more.")
    shutil.rmtree(model.folder, ignore_errors=True)


def _model(row: tuple[Any, ...]) -> RegisteredModel:
    name, version, place, triton_models, tags, *rest = row
    path = home() / "registry" / "models" / name / str(version) / place
    return RegisteredModel(name, version, path, tuple(json.loads(triton_models)), json.loads(tags), *rest)


@contextmanager
def _writing() -> Iterator[sqlite3.Connection]:
    """Hold the database's write lock for a block: all that it does is kept at its end, nothing after an error."""
    with _connected() as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        if database.in_transaction:
            database.execute("COMMIT")


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    file = home_folder("registry") / "registry.sqlite"
    try:
        database = sqlite3.connect(file, timeout=_PATIENCE_S, isolation_level=None)
        try:
            layout = database.execute("PRAGMA user_version").fetchone()[0]
            if layout > _LAYOUT:
                raise HomeError(
                    f"{file} was written by a later release of tritonnb.",
                    hint="update tritonnb, or set TRITONNB_HOME to another folder.",
                )
            if not layout:
                database.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_LAYOUT}; COMMIT;")
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise HomeError(
            f"The registry {file} cannot be used: {error}.",
            hint="is the disk full, or the file damaged? The models' files lie beside it, in `models`.",
        ) from error
