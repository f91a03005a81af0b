"""Models written in notebook cells: kept in the deployment's folder, checked before, and found again in errors.

::

    cells/<model>/model.py          the code of a %%triton_model cell
    cells/<model>/config.pbtxt      the text of a %%triton_pbtxt cell

`tritonnb.repository.stage` lays them over the sources, which are never changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonnb.errors import ModelConfigError, RepositoryError
from tritonnb.repository import Cell
from tritonnb.spec_sections import MODEL_NAME

if TYPE_CHECKING:
    from pathlib import Path

_CODE, _CONFIG = "model.py", "config.pbtxt"
# What `client.reasons` and `client.diagnosis` make of the frame that led to a model's exception.
_AT = re.compile(
    r"\s*\(at (?:[^\s()]*/)?(?P<model>[^/\s]+)/(?P<version>\d+)/model\.py\((?P<line>\d+)\): (?P<function>[^)]+)\)"
)


class Cells:
    """The cells of one run of a server.

    Parameters
    ----------
    folder
        The run's own folder. What is on disk counts, because other notebooks may hold handles on the deployment too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "cells"
        self._staged = folder / "models"

    def read(self) -> dict[str, Cell]:
        """Return the cells by their model's name."""
        if not self._folder.is_dir():
            return {}
        return {
            folder.name: Cell(_text(folder / _CODE), _text(folder / _CONFIG))
            for folder in sorted(self._folder.iterdir())
        }

    def write(self, model: str, cell: Cell) -> None:
        """Keep exactly this of a model; nothing of one whose cell is empty."""
        folder = self._folder / model
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((_CODE, cell.code), (_CONFIG, cell.config)):
            if text is None:
                (folder / name).unlink(missing_ok=True)
            else:
                draft = folder / f"{name}.new"
                draft.write_text(text, encoding="utf-8")
                draft.replace(folder / name)
        if cell == Cell():
            folder.rmdir()

    def located(self, text: str) -> str:
        """Return an error's text with the cell's own line wherever it names a line of a staged ``model.py``."""
        return _AT.sub(self._line_of_cell, text)

    def rerun(self, model: str) -> None:
        """Make Triton load a model's code anew though it may be the same: who runs a cell again means it."""
        for version in self._versions(model):
            (self._staged / model / version / _CODE).touch()

    def _versions(self, model: str) -> list[str]:
        """Return the staged versions whose code is the cell's; the others are the sources' own."""
        code = _text(self._folder / model / _CODE)
        files = (self._staged / model).glob(f"*/{_CODE}")
        return [] if code is None else [file.parent.name for file in files if _text(file) == code]

    def _line_of_cell(self, at: re.Match[str]) -> str:
        code = _text(self._folder / at["model"] / _CODE)
        if code is None or at["version"] not in self._versions(at["model"]):
            return at[0]
        lines, number = code.splitlines(), int(at["line"])
        line = lines[number - 1].strip() if number <= len(lines) else ""
        inside = "" if at["function"] == "<module>" else f", in {at['function']}"
        return f"\n  line {number} of the cell{inside}: {line}"


def check(model: str, cell: Cell) -> None:
    """Check a cell before it is kept.

    Raises
    ------
    RepositoryError
        It is no name for a model, or the code is no Python; with the cell's own line.
    ModelConfigError
        The text is no ``config.pbtxt``, or names another model; with the cell's own line and column.
    """
    if not MODEL_NAME.fullmatch(model):
        raise RepositoryError(f"{model!r} is no name for a model.", hint="use letters, digits, '.', '_' and '-'.")
    if cell.code is not None:
        try:
            compile(cell.code, "<cell>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise RepositoryError(f"Model {model!r}, {no_python(error)}", hint="nothing was changed.") from error
    if cell.config is not None:
        from tritonnb.repository import pbtxt  # noqa: PLC0415  (gRPC's import, for those who write a config)

        name = pbtxt.parse(cell.config, source="The cell").name
        if name not in ("", model):
            raise ModelConfigError(
                f"The cell is the configuration of model {model!r} and names it {name!r}.",
                hint=f"take `name` out of it, or make it {model!r}.",
            )


def no_python(error: SyntaxError | ValueError) -> str:
    """Say where and why the code of a cell is no Python."""
    if not isinstance(error, SyntaxError):  # Python 3.11, of a zero byte
        return f"the cell: {error}."
    shown = (error.text or "").rstrip()
    # A tab must stay a tab before the caret, or it points beside the mark.
    margin = "".join(sign if sign == "\t" else " " for sign in shown[: (error.offset or 1) - 1])
    lines = f"\n  {shown}\n  {margin}^" if shown else ""
    return f"line {error.lineno} of the cell: {error.msg}.{lines}"


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
