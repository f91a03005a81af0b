"""``%triton_bench``: a sweep with its charts, drawn while it goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import HTML, display

from tritonnb.benching import arguments, numbers, p95_ms, save
from tritonnb.errors import ModelConfigError, UsageError
from tritonnb.magics.parsed import magic, served

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.measure.advice import Advice, ConfigChange
    from tritonnb.measure.point import Point
    from tritonnb.measure.report import Report


@magics_class
class BenchMagics(Magics):
    """Load measurement."""

    shell: InteractiveShell  # set by IPython; the base class allows for None

    @line_magic
    @magic
    def triton_bench(self, options: argparse.Namespace, namespace: Mapping[str, Any]) -> Report:
        limit, asked = p95_ms(options.p95), arguments(options)
        if options.inputs:
            if options.zeros or options.shape:
                raise UsageError("--zeros and --shape are about inputs made up.", hint="leave them out, or your own.")
            asked["inputs"] = _arrays(dict(pair.resolve(namespace) for pair in options.inputs))
        if options.instances:
            asked["instances"] = numbers("--instances", options.instances, int)
        handle = served(options.on)
        with LiveChart(options.model, shown=_is_notebook(self.shell)) as chart:
            report = handle.measure(options.model, version=options.model_version, on_point=chart.add, **asked)
        if options.out:
            self.shell.user_ns[options.out] = report
        save(report, options)
        advice = report.recommend(p95_ms=limit)
        display(advice)  # type: ignore[no-untyped-call]
        if options.write_config:
            print(_change(advice))  # noqa: T201  (the answer to the option)
        return report


class LiveChart:
    """The charts of the points that are done, drawn anew after each; a context manager that takes them away at the end.

    They are drawn between the points, when no load is sent, so that drawing takes nothing from the measurement.

    Parameters
    ----------
    model
        The model that is measured.
    shown
        Whether anybody sees it.
    """

    def __init__(self, model: str, *, shown: bool) -> None:
        self._model = model
        self._shown = shown
        self._points: list[Point] = []
        self._display: Any = None

    def add(self, point: Point) -> None:
        """Draw the charts with one more point."""
        from tritonnb.measure.report import Report  # noqa: PLC0415  (imports numpy)

        self._points.append(point)
        if not self._shown:
            return
        mode = "concurrency" if point.request_rate is None else "rate"
        figure = Report(self._model, tuple(self._points), mode=mode).figure()
        if self._display is None:
            self._display = display(figure, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._display.update(figure)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.update(HTML(""))  # type: ignore[no-untyped-call]  # the report shows them


def _is_notebook(shell: InteractiveShell) -> bool:
    return hasattr(shell, "kernel") and os.environ.get("TRITONNB_NONINTERACTIVE") != "1"


def _change(advice: Advice) -> ConfigChange | str:
    try:
        return advice.config_change()
    except ModelConfigError as error:  # the report, which may have taken hours, is shown all the same
        return str(error)


def _arrays(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in inputs.items():
        if isinstance(value, str):
            raise UsageError(f"{name}={value} is no array.", hint=f"give a variable: {name}=$array.")
    return inputs
