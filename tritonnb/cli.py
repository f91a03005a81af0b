"""The command line: the same verbs outside a notebook."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from tritonnb.benching import add_options, arguments, p95_ms, save
from tritonnb.errors import Interrupted, TritonNbError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

OK, FAILED, INTERRUPTED = 0, 1, 130
_KEY = "TRITONNB_KEY"


def main(arguments: list[str] | None = None) -> int:
    """Run ``tritonnb``.

    Returns
    -------
    int
        The exit status: 0, 1 for an error that was told, 130 after Ctrl-C; a wrong line ends the process with 2.
    """
    options, unknown = command_line().parse_known_args(arguments)
    if unknown:
        _refuse(unknown[0], options.parser)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except TritonNbError as error:
        print(f"tritonnb: {error}", file=sys.stderr)
        return FAILED
    except Interrupted as interrupt:
        print(f"tritonnb: {interrupt}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        sys.stderr.close()
        return OK
    return status


def _refuse(word: str, parser: argparse.ArgumentParser) -> NoReturn:
    if not word.startswith("-"):
        parser.error(f"unexpected {word!r}")
    known = [option for option in parser._option_string_actions if option.startswith("--")]  # noqa: SLF001  (argparse has no public list)
    parser.error(f"unknown option {word}; {nearest(word, known)}")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(prog="tritonnb", description="NVIDIA Triton Inference Server at home: what runs, and how it is.")
    verbs = parser.add_subparsers(metavar="VERB", required=True, title="verbs")

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run, parser=added)
        return added

    verb("demo", _demo, "Serve a real model and show what it sees in three pictures.")
    ps = verb("ps", _ps, "List every deployment of yours: whose it is, how it is, where it answers, what it takes.")
    ps.add_argument("--json", action="store_true", help="as JSON, for programs")
    stop = verb("stop", _stop, "Stop deployments, kept ones and those of living notebooks too.")
    which = stop.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME", help="the deployment")
    which.add_argument("--all", action="store_true", help="every deployment of yours")
    registered = verb("registered", _registered, "List the registered models, or the versions of one.")
    registered.add_argument("name", nargs="?", metavar="NAME", help="only this one, or its NAME:VERSION")
    logs = verb("logs", _logs, "Print the log of a deployment's server, and of its entry script.")
    logs.add_argument("name", metavar="NAME", help="the deployment")
    logs.add_argument("--lines", type=int, default=50, metavar="N", help="at most so many (default: %(default)s)")
    logs.add_argument("--follow", "-f", action="store_true", help="go on with what comes to it")
    bench = verb("bench", _bench, "Measure how fast a model of any v2 server answers, and recommend a load.")
    bench.add_argument("url", metavar="URL", help="the server's HTTP address; host:port will do")
    bench.add_argument("model", metavar="MODEL", help="the server's name of the model")
    bench.add_argument("--model-version", default="", metavar="V", help="a version of the model (default: the latest)")
    bench.add_argument("--grpc-url", default="", metavar="HOST:PORT", help="its gRPC address")
    bench.add_argument("--metrics-url", default="", metavar="URL", help="the address of its metrics, for GPUs")
    add_options(bench)
    bench.epilog = f"The server's key is taken from the environment, {_KEY}."
    verb("doctor", _doctor, "Look at what this machine has for serving, what it lacks and how to mend it.")
    verb("clean", _clean, "Remove what dead deployments have left, and engines that this release does not use.")
    engine = verbs.add_parser("engine", help="The embedded engine: `engine install` builds it ahead of its first use.")
    steps = engine.add_subparsers(metavar="VERB", required=True, title="verbs")
    text = "Build the embedded engine ahead of its first use."
    install = steps.add_parser("install", help=text, description=text)
    install.set_defaults(run=_engine_install, parser=install)
    environment = verbs.add_parser("environment", help="The environments of extra packages: `list` and `prune` them.")
    steps = environment.add_subparsers(metavar="VERB", required=True, title="verbs")
    for name, run, text in (
        ("list", _environment_list, "List the environments of extra packages: their size, and who uses them."),
        ("prune", _environment_prune, "Remove the environments of extra packages that no deployment uses."),
    ):
        step = steps.add_parser(name, help=text, description=text)
        step.set_defaults(run=run, parser=step)
    image = verbs.add_parser("image", help="The small CPU image of Triton for Docker: `image build` makes it.")
    steps = image.add_subparsers(metavar="VERB", required=True, title="verbs")
    text = "Build the small CPU image of Triton for the Docker engine, from the embedded engine."
    build = steps.add_parser("build", help=text, description=text)
    build.add_argument(
        "--tag", metavar="NAME:TAG", help="the image's name (default: tritonnb/tritonserver:RELEASE-cpu)"
    )
    build.add_argument("--base", metavar="IMAGE", help="the image to build on (default: Python's slim one)")
    build.add_argument(
        "--pip", metavar="PACKAGE", action="append", default=[], help="a further package; may be repeated"
    )
    build.set_defaults(run=_image_build, parser=build)
    return parser


class _Parser(argparse.ArgumentParser):
    """Without abbreviations: a later option would break an old script. Subparsers are made of this class too."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{**options, "allow_abbrev": False})  # type: ignore[arg-type]  # argparse's many types


# Each verb imports what it needs: `tritonnb --help` must stay quick.
def _demo(_: argparse.Namespace) -> int:
    from tritonnb.demo import main as demo  # noqa: PLC0415

    return demo()


def _ps(options: argparse.Namespace) -> int:
    from tritonnb.running import running  # noqa: PLC0415

    status = running()
    print(status.to_json() if options.json else status)
    return OK


def _stop(options: argparse.Namespace) -> int:
    from tritonnb.records import records  # noqa: PLC0415
    from tritonnb.running import owner_text, record_named, stop  # noqa: PLC0415

    doomed = records() if options.all else [record_named(options.name)]
    for record in doomed:
        owner = owner_text(record.owner, record.owner_started)
        stop(record)
        whose = "was kept" if record.keep else f"belonged to {owner} {record.owner}"
        print(f"Deployment {record.name!r}, which {whose}, is stopped.")
    if not doomed:
        print("No deployment runs.")
    return OK


def _registered(options: argparse.Namespace) -> int:
    from tritonnb.registry import registered  # noqa: PLC0415

    print(registered(options.name))
    return OK


def _logs(options: argparse.Namespace) -> int:
    from tritonnb.running import log_pieces, record_named  # noqa: PLC0415

    for piece in log_pieces(record_named(options.name), options.lines, follow=options.follow):
        print(piece, end="", flush=True)
    return OK


def _bench(options: argparse.Namespace) -> int:
    from tritonnb.handle import connect  # noqa: PLC0415

    limit, asked = p95_ms(options.p95), arguments(options)
    # Not an option: other users of the machine can read a command line.
    key = os.environ.get(_KEY, "")
    with connect(options.url, key=key, grpc_url=options.grpc_url, metrics_url=options.metrics_url) as server:
        report = server.measure(options.model, version=options.model_version, **asked)
    save(report, options)
    advice = report.recommend(p95_ms=limit)
    print(report)
    print(advice)
    if options.write_config:
        print(advice.config_change())
    if report.ended_early == "interrupted":
        return INTERRUPTED
    return FAILED if report.partial else OK


def _doctor(_: argparse.Namespace) -> int:
    from tritonnb.doctor import examine  # noqa: PLC0415

    report = examine()
    print(report)
    return OK if report.healthy else FAILED


def _clean(_: argparse.Namespace) -> int:
    from tritonnb.cleaning import clean  # noqa: PLC0415

    print(clean())
    return OK


def _engine_install(_: argparse.Namespace) -> int:
    from tritonnb.environments import engine_environment  # noqa: PLC0415
    from tritonnb.render.progress import Progress  # noqa: PLC0415

    with Progress("Building the engine") as progress:
        environment = engine_environment(progress.report)
    print(f"The engine is ready: Python {environment.interpreter.minor} in {environment.folder}")
    return OK


def _environment_list(_: argparse.Namespace) -> int:
    from tritonnb.overlays import overlays  # noqa: PLC0415

    print(overlays())
    return OK


def _environment_prune(_: argparse.Namespace) -> int:
    from tritonnb.overlays import prune  # noqa: PLC0415

    print(prune())
    return OK


def _image_build(options: argparse.Namespace) -> int:
    from tritonnb.engines.cpu_image import build_image  # noqa: PLC0415
    from tritonnb.render.progress import Progress  # noqa: PLC0415

    with Progress("Building the image") as progress:
        image = build_image(options.tag, base=options.base, pip=options.pip, report=progress.report)
    print(f"The image is ready: {image.tag}, {image.size / 1e6:.0f} MB, Triton {image.release}")
    return OK
