"""What a sweep measured, whole: it reads well, goes out to other tools and comes back."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping  # noqa: TC003  (pydantic reads the annotations when a report is read)
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.errors import SpecError
from tritonnb.measure.point import Point  # noqa: TC001  (as above)
from tritonnb.measure.rows import perf_analyzer_csv, row, shown
from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table

if TYPE_CHECKING:
    import os

    import pandas as pd

    from tritonnb.measure.advice import Advice
    from tritonnb.measure.chart import Chart
    from tritonnb.measure.comparison import Comparison

#: Raised by whatever makes an older release misread a saved report.
_FORMAT = 1


@dataclass(frozen=True, repr=False)
class Report:
    """Every point of a sweep, and all that one must know to compare it with another. It never holds a key.

    Parameters
    ----------
    model, version
        The model that was measured; the version is empty where the server chose it.
    points
        In the order in which they were measured.
    protocol
        ``"http"`` or ``"grpc"``.
    unit
        What is counted: ``"inferences"``, or ``"requests"`` where nobody knows how many inferences one of them is, as
        of an entry script.
    mode
        What the load held: ``"concurrency"``, or a request rate's distribution, ``"constant"`` or ``"poisson"``.
    config
        The model's configuration as the server completed it, as Triton's JSON.
    spec
        The deployment's spec in YAML; empty for a server of others.
    settings
        How it was measured: windows, warm-up, the kind of inputs and the like.
    versions
        Of tritonnb, of the server, of Python, by name.
    machine
        Of the machine that sent the load: its CPUs, memory and system.
    started_at
        When, in ISO 8601.
    ended_early
        Why points are missing, such as ``"interrupted"``; empty where all were measured.
    warnings
        What to bear in mind when reading it, a sentence each; those of a single point are with the point.
    """

    model: str
    points: tuple[Point, ...]
    version: str = ""
    protocol: str = "http"
    mode: str = "concurrency"
    unit: str = "inferences"
    config: Mapping[str, Any] = field(default_factory=dict)
    spec: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    started_at: str = ""
    ended_early: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether points are missing."""
        return bool(self.ended_early)

    @property
    def several_instances(self) -> bool:
        """Whether several counts of instances were measured."""
        return len({point.instances for point in self.points}) > 1

    def label(self, point: Point) -> str:
        """Return which of the report's points one is: batch size, load, and instances where that differs."""
        if not self.several_instances:
            # A request that may be any number of inferences has no batch size.
            return str(point) if self.unit == "inferences" else str(point).partition(", ")[2]
        return f"{point}, {point.instances} instance{'s' * (point.instances != 1)}"

    # Out -------------------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat mapping for each point: times in microseconds, None where something is not known."""
        return [row(point) for point in self.points]

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Raises
        ------
        SpecError
            pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415  (optional, and heavy)
        except ImportError as error:
            raise SpecError(
                "A data frame needs pandas.", hint="`pip install pandas`, or take `report.rows`."
            ) from error
        return pd.DataFrame(self.rows)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the points as perf_analyzer's ``-f`` writes them, slowest first, and write them where asked.

        Its own columns come first and keep their names, order and units (microseconds); what it does not know, such
        as the batch size, follows. *Client Send* and *Client Recv* are 0: both are in *Network+Server Send/Recv*.

        Parameters
        ----------
        path
            The file to write; it is replaced.
        """
        text = perf_analyzer_csv(self.points, by_concurrency=self.mode == "concurrency")
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the whole report as JSON that `from_json` reads without any loss, and write it where asked.

        Parameters
        ----------
        path
            The file to write; it is replaced.
        """
        text = json.dumps({"tritonnb_report": _FORMAT, "report": asdict(self)}, indent=1)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Report:
        """Read a report that `to_json` wrote.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        SpecError
            The file cannot be read, is no saved report, or comes from a later tritonnb.
        """
        from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  (only where a report is read)

        hint = "`report.to_json(path)` writes one."
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            number, content = saved["tritonnb_report"], saved["report"]
        except OSError as error:
            raise SpecError(f"The report {path} cannot be read: {error}.") from error
        except (ValueError, TypeError, KeyError) as error:
            raise SpecError(f"{path} is no saved report.", hint=hint) from error
        if number != _FORMAT:
            raise SpecError(
                f"{path} is a report of format {number}; this tritonnb reads format {_FORMAT}.",
                hint="read it with the tritonnb that wrote it.",
            )
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SpecError(f"{path} is a damaged report: {where}: {first['msg']}.", hint=hint) from None

    def recommend(self, *, p95_ms: float | None = None) -> Advice:
        """Derive a recommendation in words: the load to choose, what limits it, what to change in the configuration.

        Parameters
        ----------
        p95_ms
            The p95 latency that must be kept, in milliseconds; None for none.
        """
        from tritonnb.measure.advice import recommend  # noqa: PLC0415  (it needs this module)

        return recommend(self, None if p95_ms is None else p95_ms * 1e3)

    def compare(self, other: Report) -> Comparison:
        """Return what has changed from this report, the one before, to another.

        Parameters
        ----------
        other
            The one after.

        Raises
        ------
        SpecError
            They have no load in common.
        """
        from tritonnb.measure.comparison import compare  # noqa: PLC0415  (it needs this module)

        return compare(self, other)

    # Shown -----------------------------------------------------------------------------------------------------------

    def figure(self, *, p95_ms: float | None = None) -> Chart:
        """Return the four charts of the report in one figure; `tritonnb.measure.charts` has each by itself.

        Parameters
        ----------
        p95_ms
            A limit to draw, in milliseconds.
        """
        from tritonnb.measure.charts import overview  # noqa: PLC0415  (imports matplotlib)

        return overview(self, None if p95_ms is None else p95_ms * 1e3)

    @property
    def notes(self) -> tuple[str, ...]:
        """All that is to be borne in mind, of the report and of its points, a sentence each."""
        early = (f"Ended early: {self.ended_early}.",) if self.ended_early else ()
        return (
            *early,
            *self.warnings,
            *(f"{self.label(point)}: {text}" for point in self.points for text in point.warnings),
        )

    def _title(self) -> str:
        points = f"{len(self.points)} point{'s' * (len(self.points) != 1)}"
        version = f", version {self.version}" if self.version else ""
        early = f", ended early: {self.ended_early}" if self.ended_early else ""
        placed = ", inputs in shared memory" if self.settings.get("shared_memory") else ""
        return f"Measured {self.model}{version}: {points} over {self.protocol}{placed}{early}"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        return shown(
            self.points,
            by_concurrency=self.mode == "concurrency",
            by_instances=self.several_instances,
            unit=self.unit,
            stable=stable_output(),
        )

    def __repr__(self) -> str:
        columns, rows = self._table()
        notes = () if stable_output() else self.notes
        return "\n".join([text_table(self._title(), rows, columns), *notes])

    def _repr_html_(self) -> str:
        columns, rows = self._table()
        if stable_output() or not self.points:
            return table(self._title(), columns, rows)
        from tritonnb.measure.chart import image  # noqa: PLC0415  (imports matplotlib)

        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"{table(self._title(), columns, rows)}\n{notes}\n{image(self.figure())}"
