"""An entry script written in a notebook cell: kept in the tier's folder, so that it outlives Triton's server.

::

    cell.json               what else the cell said, and which file holds its code
    scripts/3/score.py      the code; a file of its own for each time the cell is run, because the workers of before
                            go on with theirs until the new ones are ready
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.errors import SpecError, nearest
from tritonnb.score.files import read_json, write_json
from tritonnb.spec import Spec
from tritonnb.spec_sections import Score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What messages and tracebacks call the script.
SHOWN_AS = "the cell"


@dataclass(frozen=True)
class ScriptCell:
    """What a ``%%triton_score`` cell says.

    Parameters
    ----------
    code
        The script; line 1 is the magic's own line.
    score
        Keys of the spec's ``score`` section that win over it.
    pip
        Packages beside those of the spec's ``environment``.
    auth
        Whether the tier asks for a key; None: as the spec says.
    """

    code: str = field(repr=False)
    score: Mapping[str, Any]
    pip: tuple[str, ...] = ()
    auth: bool | None = None

    @classmethod
    def of(cls, code: str, *, pip: Iterable[str] = (), auth: bool | None = None, **options: Any) -> ScriptCell:
        """Return a cell, checked; its options are the keys of the spec's ``score`` section, None where not given.

        Raises
        ------
        SpecError
            There is no such option, or it cannot have this value.
        """
        known = Score.model_fields.keys() - {"entry_script"}
        if unknown := options.keys() - known:
            word = min(unknown)
            raise SpecError(f"An entry script has no option {word!r}.", hint=nearest(word, known))
        given = {key: value for key, value in options.items() if value is not None}
        said = {"source_directory": Path.cwd(), **given}
        checked = Spec.from_options(score={"entry_script": "score.py", **said}, environment={"pip": list(pip)})
        score = checked.score.model_dump(mode="json") if checked.score else {}
        return cls(code, {key: score[key] for key in said}, checked.environment.pip, auth)

    def write(self, folder: Path) -> Path:
        """Write the code into a tier's folder and return its file; it counts from `keep` on."""
        scripts = folder / "scripts"
        number = max((int(each.name) for each in scripts.glob("[0-9]*")), default=0) + 1
        file = scripts / str(number) / "score.py"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(parents=True)
        file.write_text(self.code, encoding="utf-8")
        return file

    def keep(self, file: Path) -> None:
        """Make this the cell of the folder in which its code was written."""
        folder = file.parent.parent.parent
        said = {"file": str(file), "score": {**self.score}, "pip": self.pip, "auth": self.auth}
        write_json(folder / "cell.json", said)
        for old in file.parent.parent.iterdir():
            # Workers that still end may look a line of theirs up for a traceback.
            if int(old.name) < int(file.parent.name) - 1:
                shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def read(cls, folder: Path) -> tuple[ScriptCell, Path] | None:
        """Return the cell that a tier's folder keeps and the file with its code, or None."""
        said = read_json(folder / "cell.json")
        if said is None:
            return None
        file = Path(said["file"])
        return cls(file.read_text(encoding="utf-8"), said["score"], tuple(said["pip"]), said["auth"]), file

    @staticmethod
    def forget(folder: Path) -> None:
        """Keep no cell in a tier's folder any more."""
        (folder / "cell.json").unlink(missing_ok=True)
