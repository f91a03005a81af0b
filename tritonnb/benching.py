"""A measurement as a line asks for it, in a notebook or in a shell: its options, and what they stand for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tritonnb.measure.report import Report

_CHARTS = (".pdf", ".png", ".svg")
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>us|µs|ms|s)")
_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `arguments` and `p95_ms` read."""
    # All are texts until `arguments` reads them, so that in a magic `$name` may stand for each.
    parser.add_argument("--batch", default="1", metavar="1,2,4", help="batch sizes (default: %(default)s)")
    parser.add_argument(
        "--concurrency", default="1", metavar="1,4", help="requests outstanding at any time (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", metavar="50,100", help="requests per second, answered or not, in place of a concurrency"
    )
    parser.add_argument("--poisson", action="store_true", help="a --rate at random intervals, as independent callers")
    parser.add_argument("--requests", metavar="N", help="so many per point, in place of windows until they agree")
    parser.add_argument("--protocol", default="http", choices=["http", "grpc"], help="(default: %(default)s)")
    parser.add_argument("--zeros", action="store_true", help="inputs of zeros (default: random from the metadata)")
    parser.add_argument(
        "--shape", action="append", metavar="INPUT=3,4", help="of an input made up that takes any; may be repeated"
    )
    parser.add_argument(
        "--shared-memory", action="store_true", help="large inputs: in this machine's shared memory, in place of sent"
    )
    parser.add_argument("--interval", metavar="S", help="seconds of a window")
    parser.add_argument("--warm-up", metavar="S", help="seconds of each point that do not count")
    parser.add_argument("--budget", metavar="S", help="seconds that all points together may take")
    parser.add_argument("--p95", metavar="20ms", help="recommend the most throughput whose p95 latency keeps this")
    parser.add_argument(
        "--write-config", action="store_true", help="show what to change in config.pbtxt as a diff; no file is written"
    )
    parser.add_argument("--json", metavar="FILE", help="save the report, for Report.from_json")
    parser.add_argument("--csv", metavar="FILE", help="save the points as perf_analyzer does")
    parser.add_argument("--chart", metavar="FILE", help="save the charts: .png, .svg or .pdf")


def arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a line's options stand for, as `tritonnb.measure.sweep.measure` takes it.

    Raises
    ------
    UsageError
        A value that cannot be read.
    """
    _check_files(options)
    found: dict[str, Any] = {
        "batch_sizes": numbers("--batch", options.batch, int),
        "concurrency": numbers("--concurrency", options.concurrency, int),
        "protocol": options.protocol,
        "arrivals": "poisson" if options.poisson else "constant",
    }
    if options.rate:
        found["rates"] = numbers("--rate", options.rate, float)
    elif options.poisson:
        raise UsageError("--poisson is about a rate.", hint="add --rate 100.")
    if options.zeros:
        found["inputs"] = "zeros"
    if options.shape:
        found["shapes"] = dict(_shape(text) for text in options.shape)
    if options.shared_memory:
        found["shared_memory"] = True
    if options.requests:
        found["requests"] = _number("--requests", options.requests, int)
    if options.interval:
        from tritonnb.measure.stability import Rule  # noqa: PLC0415  (imports numpy)

        found["rule"] = Rule(interval_s=_number("--interval", options.interval, float))
    for name, text in (("warm_up", options.warm_up), ("budget", options.budget)):
        if text:
            found[f"{name}_s"] = _number(f"--{name.replace('_', '-')}", text, float)
    return found


def save(report: Report, options: argparse.Namespace) -> None:
    """Write the files that a line asks for.

    Raises
    ------
    UsageError
        One cannot be written.
    """
    try:
        if options.json:
            report.to_json(Path(options.json).expanduser())
        if options.csv:
            report.to_csv(Path(options.csv).expanduser())
        if options.chart:
            report.figure(p95_ms=p95_ms(options.p95)).savefig(Path(options.chart).expanduser())
    except OSError as error:
        raise UsageError(f"The report could not be saved: {error}.") from error


def p95_ms(text: str | None) -> float | None:
    """Return a latency such as ``20ms`` or ``0.5s`` in milliseconds; None where there is none.

    Raises
    ------
    UsageError
        It is no latency, or has no unit.
    """
    if not text:
        return None
    found = _DURATION.fullmatch(text.strip())
    if not found or not float(found["number"]):
        raise UsageError(f"--p95 {text!r} is no latency.", hint="write it with its unit: 20ms, 0.5s or 800us.")
    return float(found["number"]) * _MS[found["unit"]]


def numbers(option: str, text: str, kind: Callable[[str], float]) -> list[float]:
    """Return the numbers of a list such as ``1,2,4``; brackets may stand around it.

    Raises
    ------
    UsageError
        One of them is no number, or there is none.
    """
    listed = [_number(option, word, kind) for word in text.strip("[]() ").split(",") if word.strip()]
    if not listed:
        raise UsageError(f"{option} {text!r} holds no number.", hint=f"write {option} 1,2,4.")
    return listed


def _shape(text: str) -> tuple[str, list[float]]:
    name, equals, sizes = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--shape {text!r} names no input.", hint="write it as --shape x=3,224,224.")
    return name, numbers("--shape", sizes, int)


def _number(option: str, text: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(text.strip())
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        raise UsageError(
            f"{option} {text!r} cannot be read.", hint=f"{option} takes {whole}: {option} 1,2,4."
        ) from None


def _check_files(options: argparse.Namespace) -> None:
    """Say before the measurement, not after it, that its files cannot be written."""
    for option in ("json", "csv", "chart"):
        file = getattr(options, option)
        if file and not Path(file).expanduser().parent.is_dir():
            raise UsageError(f"--{option} {file!r}: there is no such folder.")
    if options.chart and Path(options.chart).suffix not in _CHARTS:
        raise UsageError(f"--chart {options.chart!r} is no picture.", hint=f"known: {', '.join(_CHARTS)}.")
