"""The options of every magic, in one place: help, completion and the README's table are made from it."""

from __future__ import annotations

from tritonnb.magics.parser import MagicParser, Reference


def _on(parser: MagicParser) -> MagicParser:
    parser.add_argument("--on", metavar="NAME", help="the deployment (default: the latest)")
    return parser


def _deploy() -> MagicParser:
    parser = MagicParser(
        "%triton_deploy",
        "Serve a model with a real tritonserver: a path, or, as %%triton_deploy NAME, a spec in YAML in the cell.",
        "  %triton_deploy models\n"
        "  %triton_deploy net.onnx --name demo --port 8000\n"
        "  %%triton_deploy demo\n"
        "  models: models\n"
        "  auth: true",
    )
    parser.add_argument("source", nargs="?", help="what to serve; on a cell, the deployment's name")
    parser.add_argument("--name", help="the deployment's name (default: from the path)")
    parser.add_argument("--engine", choices=["auto", "embedded"], help="what runs the server (default: auto)")
    parser.add_argument("--port", type=int, help="the HTTP port (default: a free one)")
    parser.add_argument(
        "--auth",
        action="store_const",
        const=True,
        help="ask for the key on health, metadata and inference too",
    )
    parser.add_argument("--no-auth", dest="auth", action="store_const", const=False, help="the opposite (default)")
    parser.add_argument("--replace", action="store_true", help="delete a running deployment of this name first")
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds to wait (default: TritonMagics.startup_timeout)"
    )
    parser.add_argument("-o", "--out", metavar="VARIABLE", help="store the deployment in a variable")
    return parser


def _infer() -> MagicParser:
    parser = MagicParser(
        "%triton_infer",
        "Send one inference request. Inputs are checked against the model's metadata first.",
        "  %triton_infer densenet_onnx data_0=$picture\n  result = %triton_infer adder a=[1,2] b=${numpy.ones(2)}",
    )
    parser.add_argument("model", help="Triton's name of the model")
    parser.add_argument("inputs", nargs="*", type=Reference, metavar="input=value", help="$name, ${expression} or JSON")
    parser.add_argument("--outputs", metavar="A,B", help="only these outputs (default: all)")
    parser.add_argument("--model-version", default="", metavar="V", help="a version of the model (default: the latest)")
    parser.add_argument("--request-id", default="", metavar="ID", help="given back in the result")
    return _on(parser)


def _health() -> MagicParser:
    return _on(MagicParser("%triton_health", "Show whether the server and each of its models are live and ready."))


def _metadata() -> MagicParser:
    parser = MagicParser("%triton_metadata", "Show the names, types and shapes of a model's inputs and outputs.")
    parser.add_argument("model", help="Triton's name of the model")
    parser.add_argument("--model-version", default="", metavar="V", help="a version of the model (default: the latest)")
    return _on(parser)


def _logs() -> MagicParser:
    parser = MagicParser("%triton_logs", "Print the last lines of the server's log.")
    parser.add_argument("--lines", type=int, default=50, metavar="N", help="at most so many (default: %(default)s)")
    return _on(parser)


def _delete() -> MagicParser:
    parser = MagicParser("%triton_delete", "Stop a deployment and remove all that was made for it.")
    parser.add_argument("name", nargs="?", help="the deployment (default: the latest)")
    parser.add_argument("--all", action="store_true", help="every deployment of this kernel")
    return parser


PARSERS: dict[str, MagicParser] = {
    "triton_deploy": _deploy(),
    "triton_infer": _infer(),
    "triton_health": _health(),
    "triton_metadata": _metadata(),
    "triton_logs": _logs(),
    "triton_delete": _delete(),
}
