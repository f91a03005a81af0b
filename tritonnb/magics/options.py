"""The options of every magic, in one place: help, completion and the README's table are made from it."""

from __future__ import annotations

from tritonnb.benching import add_options
from tritonnb.magics.parser import MagicParser, Reference

ENGINES = ("auto", "embedded", "docker")
#: What names a picture file where an input is given as text.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
SCALINGS = ("none", "unit", "inception", "vgg", "imagenet")


def _on(parser: MagicParser) -> MagicParser:
    parser.add_argument("--on", metavar="NAME", help="the deployment (default: the latest)")
    return parser


def _model(parser: MagicParser) -> MagicParser:
    parser.add_argument("model", help="Triton's name of the model")
    parser.add_argument("--model-version", default="", metavar="V", help="a version of the model (default: the latest)")
    return _on(parser)


def _spec(parser: MagicParser) -> None:
    """Add what a deployment and its update have in common: the fields of the spec."""
    parser.add_argument("--engine", choices=ENGINES, help="what runs the server (default: auto)")
    parser.add_argument("--port", type=int, help="Triton's HTTP port (default: a free one)")
    parser.add_argument("--image", help="the container's image (default: NVIDIA's, or one of Triton that is there)")
    parser.add_argument("--gpus", type=_gpus, metavar="auto|none|all|0,1", help="the container's GPUs (default: auto)")
    parser.add_argument("--cpu-cores", type=float, metavar="N", help="the container's CPUs (default: no limit)")
    parser.add_argument("--memory-gb", type=float, metavar="GB", help="the container's memory (default: no limit)")
    parser.add_argument("--shm-size", metavar="SIZE", help="the container's shared memory (default: 1g)")
    parser.add_argument(
        "--pip", action="append", metavar="PACKAGE", help="for Python models and the entry script; may be repeated"
    )
    parser.add_argument(
        "--env", action="append", metavar="NAME=VALUE", help="an environment variable for them; may be repeated"
    )
    parser.add_argument("--entry-script", metavar="FILE", help="a script with init() and run(data), served on /score")
    parser.add_argument(
        "--source-directory",
        metavar="FOLDER",
        help="where the script and its modules are (default: the current folder)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that run it (default: WORKER_COUNT, else 1)"
    )
    parser.add_argument("--score-port", type=int, metavar="N", help="the port of /score; 0: a free one (default: 6789)")
    _switch(parser, "auth", "ask for the key on health, metadata, inference and /score too")
    _switch(parser, "keep", "outlive the kernel, until deleted")
    parser.add_argument(
        "--restart", choices=["never", "on-failure"], help="start a server that failed again (default: never)"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds to wait (default: TritonMagics.startup_timeout)"
    )


def _gpus(text: str) -> str | list[int]:
    """Return the numbers of a list such as ``0,1``, or the word."""
    numbers = text.split(",")
    return [int(number) for number in numbers] if all(number.isdecimal() for number in numbers) else text


def _switch(parser: MagicParser, name: str, text: str) -> None:
    """Add ``--name`` and ``--no-name``; without either, what the spec says."""
    parser.add_argument(f"--{name}", action="store_const", const=True, help=text)
    parser.add_argument(f"--no-{name}", dest=name, action="store_const", const=False, help="the opposite (default)")


def _out(parser: MagicParser) -> MagicParser:
    parser.add_argument("-o", "--out", metavar="VARIABLE", help="store the result in a variable")
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
    _spec(parser)
    parser.add_argument("--replace", action="store_true", help="replace a running deployment of this name")
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument(
        "--no-wait", action="store_true", help="return at once; %%triton_health tells when it is ready"
    )
    waiting.add_argument("--show-output", action="store_true", help="print the server's log while it starts")
    return _out(parser)


def _update() -> MagicParser:
    parser = MagicParser(
        "%triton_update",
        "Change a running deployment: its models, or, as %%triton_update NAME, what a spec in YAML in the cell names.",
        "  %triton_update other/models\n  %triton_update --auth --on demo\n  %%triton_update demo\n  auth: true",
    )
    parser.add_argument("source", nargs="?", help="what to serve now; on a cell, the deployment's name")
    _spec(parser)
    return _out(_on(parser))


def _infer() -> MagicParser:
    parser = MagicParser(
        "%triton_infer",
        "Send one inference request. Inputs are checked against the model's metadata first.",
        "  %triton_infer densenet_onnx data_0=$picture\n"
        "  result = %triton_infer adder a=[1,2] b=${numpy.ones(2)}\n"
        "  %triton_infer densenet_onnx data_0=cat.jpg --scaling inception --classes 5\n"
        "  %triton_infer densenet_onnx --random --timing\n"
        "  %triton_infer adder a=$a b=$b --curl",
    )
    _model(parser)
    add = parser.add_argument
    add(
        "inputs",
        nargs="*",
        default=[],
        type=Reference,
        metavar="input=value",
        help="$name, ${expression}, JSON, or a file: a picture, or for BYTES its content",
    )
    add("--outputs", metavar="A,B", help="only these outputs (default: all)")
    add("--classes", type=int, default=0, metavar="K", help="the K best classes of each output instead of its values")
    add("--decode", action="store_true", help="BYTES outputs as str instead of bytes")
    add("--scaling", default="", choices=SCALINGS, help="of pictures' pixels (default: none, 0 to 255)")
    add("--request-id", default="", metavar="ID", help="given back in the result")
    add("--timeout", type=float, metavar="S", help="seconds that the request may take (default: 60)")
    add("--priority", type=int, default=0, metavar="N", help="1 is the highest (default: the model's own)")
    add("--queue-timeout", type=float, metavar="S", help="seconds that it may wait in the model's queue")
    add(
        "--sequence",
        metavar="ID[:start][:end]",
        help="the sequence that it belongs to, and whether it is its first or last",
    )
    add("--param", action="append", metavar="NAME=VALUE", help="a custom parameter; may be repeated")
    add("--header", action="append", metavar="NAME=VALUE", help="an HTTP header; may be repeated")
    add("--json", action="store_true", help="send and ask for JSON instead of binary tensors")
    add("--compression", default="", choices=["gzip", "deflate"], help="of the request and of the answer")
    add("--protocol", default="", choices=["http", "grpc"], help="(default: http)")
    add("--random", action="store_true", help="make up the inputs that are not given")
    add("--batch", type=int, metavar="N", help="rows of random inputs (default: 1)")
    add("--shape", action="append", metavar="INPUT=3,4", help="of a random input that takes any; may be repeated")
    add("--seed", type=int, metavar="N", help="of random inputs (default: 0)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--timing", action="store_true", help="show where the time went: client, queue, model")
    instead.add_argument("--stream", action="store_true", help="show the answers as they come, of a decoupled model")
    instead.add_argument("--curl", action="store_true", help="only show the request as a command of curl")
    instead.add_argument("--code", action="store_true", help="only show the request as Python with tritonclient")
    return _out(parser)


def _bench() -> MagicParser:
    parser = MagicParser(
        "%triton_bench",
        "Measure how fast a model answers: batch sizes against loads, with charts and a recommendation.",
        "  %triton_bench densenet_onnx --batch 1,2,4,8 --concurrency 1,4 --p95 20ms\n"
        "  report = %triton_bench densenet_onnx data_0=$pictures --rate 50,100 --poisson\n"
        "  %triton_bench densenet_onnx --instances 1,2 --concurrency 1,8 --write-config\n"
        "Ctrl-C ends it; what was measured until then is returned.",
    )
    _model(parser)
    parser.add_argument(
        "inputs", nargs="*", default=[], type=Reference, metavar="input=$array", help="your own, sent row by row"
    )
    parser.add_argument("--instances", metavar="1,2", help="counts of instances; afterwards it is served as before")
    add_options(parser)
    return _out(parser)


def _health() -> MagicParser:
    return _on(MagicParser("%triton_health", "Show whether the server and each of its models are live and ready."))


def _models() -> MagicParser:
    return _on(
        MagicParser("%triton_models", "List the models with their versions, states and the reasons of failures.")
    )


def _metadata() -> MagicParser:
    return _model(MagicParser("%triton_metadata", "Show the names, types and shapes of a model's inputs and outputs."))


def _config() -> MagicParser:
    parser = MagicParser(
        "%triton_config",
        "Show a model's configuration as the server completed it.",
        "  %triton_config densenet_onnx --pbtxt",
    )
    parser.add_argument("--pbtxt", action="store_true", help="print it as a config.pbtxt that Triton takes back")
    return _model(parser)


def _statistics() -> MagicParser:
    parser = MagicParser("%triton_statistics", "Count each model's inferences, executions and failures, and time them.")
    parser.add_argument("model", nargs="?", default="", help="Triton's name of the model (default: every model)")
    parser.add_argument("--model-version", default="", metavar="V", help="a version of the model (default: all)")
    return _on(parser)


def _metrics() -> MagicParser:
    parser = MagicParser(
        "%triton_metrics",
        "Show the server's Prometheus metrics.",
        "  %triton_metrics inference_count\n  %triton_metrics 'model=\"densenet_onnx\"'",
    )
    parser.add_argument("pattern", nargs="?", help="only metrics in whose name or labels this expression is found")
    return _on(parser)


def _logs() -> MagicParser:
    parser = MagicParser("%triton_logs", "Show the last lines of the server's log, and of the entry script's.")
    parser.add_argument("--lines", type=int, metavar="N", help="at most so many (default: TritonMagics.log_lines)")
    return _on(parser)


def _status() -> MagicParser:
    return MagicParser(
        "%triton_status", "Show all deployments and connections of this kernel, and those that are kept."
    )


def _load() -> MagicParser:
    parser = MagicParser(
        "%triton_load",
        "Load models, or load them anew after an edit; without a name, whatever changed in the sources.",
        "  %triton_load\n  %triton_load adder reader",
    )
    parser.add_argument("models", nargs="*", metavar="model", help="Triton's names of the models")
    return _on(parser)


def _unload() -> MagicParser:
    parser = MagicParser("%triton_unload", "Unload models: their requests are refused from then on.")
    parser.add_argument("models", nargs="+", metavar="model", help="Triton's names of the models")
    parser.add_argument("--dependents", action="store_true", help="of an ensemble, the models it is made of too")
    return _on(parser)


def _model_cell() -> MagicParser:
    parser = MagicParser(
        "%%triton_model",
        "Write a model of the Python backend in the cell and load it; run again, it is loaded anew.",
        "  %%triton_model doubler\n"
        "  import triton_python_backend_utils as pb_utils\n"
        "  class TritonPythonModel: ...\n"
        "It is kept with the deployment and laid over its sources. `%triton_deploy --name NAME` begins without any.",
    )
    parser.add_argument("model", help="Triton's name of the model: a new one, or one to be replaced")
    parser.add_argument("--config", metavar="FILE", help="its config.pbtxt: a file, or $variable with the text")
    return _on(_out(parser))


def _pbtxt_cell() -> MagicParser:
    parser = MagicParser(
        "%%triton_pbtxt",
        "Write the config.pbtxt of a model in the cell; it is checked, and the model loaded anew.",
        "  %%triton_pbtxt densenet_onnx\n  max_batch_size: 8\n  dynamic_batching { }\n"
        "It is kept with the deployment and takes the place of the sources' own, which is not changed.",
    )
    parser.add_argument("model", help="Triton's name of the model; an ensemble is made of its config alone")
    return _on(_out(parser))


def _score_cell() -> MagicParser:
    parser = MagicParser(
        "%%triton_score",
        "Write the entry script of a deployment in the cell and serve it on /score; run again, it is swapped.",
        "  %%triton_score demo --workers 2 --pip nltk\n"
        "  import json\n"
        "  def init(): ...\n"
        "  def run(data): return json.loads(data)\n"
        "It is kept with the deployment; modules beside the notebook can be imported. Triton's address is in\n"
        "os.environ['TRITON_URL'], as tritonclient.http takes it. What the deployment's spec says of a script\n"
        "(`score`, `auth`) is the default of these options.",
    )
    add = parser.add_argument
    add("name", nargs="?", help="the deployment (default: the latest)")
    add("--workers", type=int, metavar="N", help="processes that run it (default: WORKER_COUNT of the spec, else 1)")
    add("--threads", type=int, metavar="N", help="requests that each of them runs at once (default: 1)")
    add("--pip", action="append", default=[], metavar="PACKAGE", help="a package that it needs; may be repeated")
    add("--port", type=int, metavar="N", help="the port of /score; 0 for a free one (default: 6789)")
    _switch(parser, "auth", "ask for a key on /score")
    add("--timeout", type=float, metavar="S", help="seconds that a request may take (default: 60)")
    add("--init-timeout", type=float, metavar="S", help="seconds that init() may take (default: 300)")
    add("--source-directory", metavar="FOLDER", help="where its modules are (default: the current folder)")
    return _out(parser)


def _connect() -> MagicParser:
    parser = MagicParser(
        "%triton_connect",
        "Connect to a v2 server that runs already, whoever started it.",
        "  %triton_connect 127.0.0.1:8000\n"
        "  %triton_connect https://models.example.com/base --name staging --key $key\n"
        "A key that is typed is saved with the notebook: read it into a variable, `key = getpass.getpass()`.",
    )
    parser.add_argument("url", help="its HTTP address; host:port will do")
    parser.add_argument("--key", default="", metavar="$KEY", help="sent as `Authorization: Bearer KEY`")
    parser.add_argument("--name", default="", help="what to call it here (default: the host)")
    parser.add_argument("--grpc-url", default="", metavar="HOST:PORT", help="its gRPC address")
    parser.add_argument("--metrics-url", default="", metavar="URL", help="the address of its metrics")
    return parser


def _register() -> MagicParser:
    parser = MagicParser(
        "%triton_register",
        "Copy a model into the registry under a name, as its next version.",
        "  %triton_register models bidaf-9-tutorial --tag task=qa --description 'answers questions'\n"
        "  %triton_register net.onnx classifier --sample-input x=$x\n"
        "  %triton_deploy classifier         # the latest version; classifier:1 for another",
    )
    add = parser.add_argument
    add("source", metavar="path", help="a model file, a model's folder, a model repository, or any file or folder")
    add("registered", metavar="name", help="its name in the registry; Triton serves it under its files' own names")
    add("--version", type=int, metavar="N", help="(default: the next)")
    add("--tag", action="append", metavar="TAG[=VALUE]", help="to find it by; may be repeated")
    add("--description", default="", metavar="TEXT", help="what it is, in a sentence")
    add("--framework", default="", metavar="WORD", help="Azure ML's word, such as Onnx or Multi")
    add("--sample-input", action="append", type=Reference, metavar="INPUT=$ARRAY", help="kept with it; may be repeated")
    return _out(parser)


def _registered() -> MagicParser:
    parser = MagicParser(
        "%triton_registered",
        "List the registered models, show one of them, or delete it.",
        "  %triton_registered --tag task=qa\n  %triton_registered classifier:1 --delete",
    )
    parser.add_argument("registered", nargs="?", metavar="name", help="NAME, NAME:VERSION or NAME:latest")
    parser.add_argument("--tag", action="append", metavar="TAG[=VALUE]", help="only with this tag; may be repeated")
    parser.add_argument("--delete", action="store_true", help="delete NAME:VERSION; refused while it is deployed")
    return _out(parser)


def _dashboard() -> MagicParser:
    parser = MagicParser(
        "%triton_dashboard",
        "Show a deployment live: health, models, batch latency, a playground to call it, its log.",
        "  %triton_dashboard\n  %triton_dashboard demo --part health",
    )
    parser.add_argument("name", nargs="?", help="the deployment (default: the latest)")
    parser.add_argument(
        "--part",
        action="append",
        metavar="PART",
        help="only this part: health, models, latency, playground or logs; may be said again",
    )
    return _out(parser)


def _delete() -> MagicParser:
    parser = MagicParser("%triton_delete", "Stop a deployment and remove all that was made for it.")
    parser.add_argument("name", nargs="?", help="the deployment (default: the latest)")
    parser.add_argument("--all", action="store_true", help="every deployment of this kernel")
    return parser


def _doctor() -> MagicParser:
    return MagicParser("%triton_doctor", "Look at what this machine has for serving, what it lacks and how to mend it.")


def _help() -> MagicParser:
    parser = MagicParser("%triton_help", "List all magics, or show the help of one.", "  %triton_help infer")
    parser.add_argument("verb", nargs="?", help="a magic, with or without `triton_`")
    return parser


PARSERS: dict[str, MagicParser] = {
    parser.prog.lstrip("%"): parser
    for parser in (
        _deploy(),
        _infer(),
        _bench(),
        _health(),
        _models(),
        _metadata(),
        _config(),
        _statistics(),
        _metrics(),
        _logs(),
        _status(),
        _load(),
        _unload(),
        _model_cell(),
        _pbtxt_cell(),
        _score_cell(),
        _register(),
        _registered(),
        _connect(),
        _update(),
        _dashboard(),
        _delete(),
        _doctor(),
        _help(),
    )
}
