"""A registered model, and lists of them, as they are shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  (a field's type)
from typing import TYPE_CHECKING, Any

from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, repr=False)
class RegisteredModel:
    """One version of a registered model; its files are a copy of what was given and do not change.

    Parameters
    ----------
    name
        Its name in the registry. Triton serves it under names of its own: `triton_models`.
    version
        Its version in the registry, from 1. Triton's versions are another thing: folders in a model's directory.
    path
        The copy, to be given to `tritonnb.deploy` and to whatever else takes a path.
    triton_models
        The names of the models in it, as Triton serves them; empty where it holds none that Triton could serve, such as
        files for an entry script.
    tags
        Words to find it by.
    description
        What it is, in a sentence.
    framework
        Azure ML's word for what it was made with, such as ``Onnx`` or ``Multi``.
    sha256
        Of the files' names and contents: the same for the same files.
    size
        Of the files together, in bytes.
    registered
        When, in seconds since the epoch.
    same_as
        The first version of this name with the very same files; None where this is the first one with them.
    """

    name: str
    version: int
    path: Path
    triton_models: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    description: str = ""
    framework: str = ""
    sha256: str = ""
    size: int = 0
    registered: float = 0.0
    same_as: int | None = None

    @property
    def id(self) -> str:
        """``NAME:VERSION``, as `tritonnb.deploy` and specs take it."""
        return f"{self.name}:{self.version}"

    @property
    def folder(self) -> Path:
        """The folder of this version, in which the registered file or folder lies: Azure ML's AZUREML_MODEL_DIR."""
        return self.path.parent

    @property
    def sample_input(self) -> Any:
        """The sample input that was registered with it: arrays by input name, or JSON's values; None without one."""
        from tritonnb.registry import store  # noqa: PLC0415  (the store makes objects of this class)

        return store.sample_of(self)

    def delete(self) -> None:
        """Remove this version and its files; its number is never given again.

        Raises
        ------
        RegistryError
            It is deployed, or gone already.
        """
        from tritonnb.registry.registering import delete  # noqa: PLC0415  (as above)

        delete(self)

    @property
    def served_as(self) -> str:
        """Triton's names of the models in it, in words."""
        return ", ".join(self.triton_models) or "none that it could serve"

    def _facts(self) -> list[tuple[str, str]]:
        rows = [
            ("Registered name", self.name),
            ("Version", str(self.version)),
            ("Triton's models", self.served_as),
            ("Framework", self.framework),
            ("Tags", _tags(self.tags)),
            ("Description", self.description),
            ("Size", _size(self.size)),
            ("Same files as", f"version {self.same_as}" if self.same_as else ""),
        ]
        if not stable_output():
            rows += [("SHA-256", self.sha256), ("Registered", _when(self.registered)), ("Path", str(self.path))]
        return [(fact, value) for fact, value in rows if value]

    def __repr__(self) -> str:
        return text_table(f"Registered model {self.id!r}", self._facts())

    def _repr_html_(self) -> str:
        return table(f"Registered model {self.id!r}", ("Property", "Value"), self._facts())


class RegisteredModels(list[RegisteredModel]):
    """Registered models by name and version."""

    def _title(self) -> str:
        if not self:
            return "No registered model."
        return f"{len(self)} registered model{'' if len(self) == 1 else 's'}"

    def _columns(self) -> tuple[str, ...]:
        columns = ("Registered as", "Triton's models", "Framework", "Tags", "Description", "Size")
        return columns if stable_output() else (*columns, "Registered", "SHA-256")

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for m in self:
            said = " ".join(m.description.split())  # a row is a line
            row = (m.id, m.served_as, m.framework or "-", _tags(m.tags) or "-", said or "-", _size(m.size))
            rows.append(row if stable_output() else (*row, _when(m.registered), m.sha256[:12]))
        return rows

    def __repr__(self) -> str:
        return text_table(self._title(), self._rows(), self._columns())

    def _repr_html_(self) -> str:
        return table(self._title(), self._columns(), self._rows())


def _tags(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{tag}={value}" if value else tag for tag, value in sorted(tags.items()))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"  # noqa: PLR2004  (0.1 MB)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
