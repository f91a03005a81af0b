"""What the server says at length, as plain lists, dicts and texts that read well in a terminal and in a notebook.

With ``TRITONNB_STABLE_OUTPUT=1`` times and other readings that change from run to run are left out of what is shown;
the values themselves hold all that the server said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tritonnb.client.results import ModelState
from tritonnb.errors import SpecError
from tritonnb.render.html import table
from tritonnb.render.text import stable_output, text_table

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTED = re.compile(r"_(success|failure|count)$")
_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_SAYING_NOTHING: tuple[object, ...] = ("", 0, None, [], {}, "FORMAT_NONE", "PRIORITY_DEFAULT")
_LOG_PREFIX = re.compile(r"^([IWEF])\d{4} [\d:.]+ \d+ ", re.MULTILINE)
# Of an entry script's log: when, and in which request; how long that took.
_SCRIPT_PREFIX = re.compile(r"^[\d-]+T[\d:.]+Z (\[worker \d+\]) \[[^\]]*\] ?", re.MULTILINE)
_SCRIPT_TIME = re.compile(r"^(\[worker \d+\] [A-Z]+ \S+ \d{3}) [\d.]+ms", re.MULTILINE)


class ModelList(list[ModelState]):
    """The state of every version of every model."""

    def _title(self) -> str:
        ready = sum(model.state == "READY" for model in self)
        return f"Models: {ready} of {len(self)} ready"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [(m.name, m.version or "-", m.state, m.reason) for m in self]

    def __repr__(self) -> str:
        rows = [(*row, reason.partition("\n")[0]) for *row, reason in self._rows()]
        return text_table(self._title(), rows)

    def _repr_html_(self) -> str:
        return table(self._title(), ("Model", "Version", "State", "Reason"), self._rows())


class ModelConfig(dict[str, Any]):
    """A model's completed configuration: Triton's ModelConfig as JSON.

    What is empty or zero is not shown.
    """

    def _title(self) -> str:
        return f"Configuration of {self.get('name', 'the model')}, as the server completed it"

    def _filled(self) -> dict[str, Any]:
        filled: dict[str, Any] = _without_empty(dict(self))
        filled.pop("name", None)
        return filled

    def __repr__(self) -> str:
        import yaml  # noqa: PLC0415  (only where a configuration is shown)

        text = yaml.safe_dump(self._filled(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        return "\n".join([self._title(), *(f"  {line}" for line in text.splitlines())])

    def _repr_html_(self) -> str:
        import yaml  # noqa: PLC0415  (as above)

        def written(value: object) -> str:
            text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**6)
            return text.removesuffix("...\n").strip()

        rows = [(key, written(value)) for key, value in self._filled().items()]
        return table(self._title(), ("Field", "Value"), rows)


class Statistics(list[dict[str, Any]]):
    """Triton's inference statistics, one entry for each version of a model: counts, and times in nanoseconds."""

    def _columns(self) -> tuple[str, ...]:
        counts = ("Model", "Version", "Inferences", "Executions", "Failures")
        return counts if stable_output() else (*counts, "Mean queue ms", "Mean compute ms")

    def _rows(self) -> list[tuple[str, ...]]:
        return [_statistics_row(entry)[: len(self._columns())] for entry in self]

    def __repr__(self) -> str:
        return text_table(_STATISTICS, self._rows(), self._columns())

    def _repr_html_(self) -> str:
        return table(_STATISTICS, self._columns(), self._rows())


_STATISTICS = "Statistics since each model was loaded"


def _statistics_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    spent = entry.get("inference_stats", {})

    def nanoseconds(part: str) -> int:
        return int(spent.get(part, {}).get("ns", 0))

    def mean_ms(*parts: str) -> str:
        requests = spent.get(parts[0], {}).get("count", 0)
        return f"{sum(map(nanoseconds, parts)) / requests / 1e6:.3g}" if requests else "-"

    return (
        str(entry.get("name", "")),
        str(entry.get("version", "")),
        str(entry.get("inference_count", 0)),
        str(entry.get("execution_count", 0)),
        str(spent.get("fail", {}).get("count", 0)),
        mean_ms("queue"),
        mean_ms("compute_infer", "compute_input", "compute_output"),
    )


class Metrics(str):
    """The server's metrics in Prometheus' text format, shown as a table of the samples."""

    __slots__ = ()

    def matching(self, pattern: str) -> Metrics:
        """Return the samples in which a regular expression is found, in the name or in the labels.

        Raises
        ------
        SpecError
            The pattern is no regular expression.
        """
        try:
            found = re.compile(pattern)
        except re.error as error:
            raise SpecError(f"{pattern!r} is no regular expression: {error}.") from error
        lines = (line for line in self.splitlines() if not line.startswith("#"))
        return Metrics("".join(f"{line}\n" for line in lines if found.search(line.rpartition(" ")[0])))

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [(found["name"], found["labels"] or "", found["value"]) for found in _SAMPLE.finditer(self._samples())]
        stable = stable_output()
        return [(n, labels, value if not stable or _COUNTED.search(n) else "") for n, labels, value in rows]

    def _samples(self) -> str:
        return "\n".join(line for line in self.splitlines() if not line.startswith("#"))

    def _title(self) -> str:
        return f"Metrics: {len(self._rows())}"

    def __repr__(self) -> str:
        return text_table(self._title(), self._rows())

    def _repr_html_(self) -> str:
        return table(self._title(), ("Metric", "Labels", "Value"), self._rows())


class Logs(str):
    """Lines of a server's log, shown as they are."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not stable_output():
            return str(self)
        of_script = _SCRIPT_TIME.sub(r"\1", _SCRIPT_PREFIX.sub(r"\1 ", str(self)))
        return _LOG_PREFIX.sub(r"\1 ", of_script)


def _without_empty(value: Any) -> Any:
    """Return a configuration without the fields that say nothing: empty, zero or false."""
    if isinstance(value, dict):
        filled = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in filled.items() if item not in _SAYING_NOTHING}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value
