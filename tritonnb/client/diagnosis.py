"""What to do about a failure that the server tells of: known causes, and what its log adds to its answer.

Only text goes in and comes out, so that it serves whatever engine the text is from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonnb.client.reasons import model_reason
from tritonnb.errors import ServerError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_SHOWN = 12

_CRASHED = "a library that it calls crashed there; call it in a Python by itself to see why."
# A cause, and its cure; the hint's {name} is what the cause's group of that name holds.
_KNOWN = (
    (
        r"No module named '(?P<name>\w+)",
        "put a module of yours beside model.py; a package comes by `environment: {pip: [{name}]}` (`--pip {name}`).",
    ),
    (
        r"(?P<name>lib(?:cuda|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nv)\w*\.so[\w.]*): cannot open shared",
        "take the package's CPU build: {name} belongs to a GPU, and this server sees none.",
    ),
    (
        r"has kind KIND_GPU but no GPUs|unsupported gpu id|KIND_GPU, but the onnxruntime",
        "write `instance_group [{ kind: KIND_CPU }]` or leave it out: this server has no GPU, the embedded one never.",
    ),
    (
        r"not available or ambiguous: (?P<name>.+)",
        "add {name} to the repository, or correct its model_name in ensemble_scheduling.",
    ),
    (
        r"at least one version must be available under the version policy",
        "correct version_policy in config.pbtxt, or add the version folder that it names.",
    ),
    (
        r"no room in /dev/shm",
        "make room there (`df -h /dev/shm`) or have fewer instances; a container has as much as its --shm-size.",
    ),
    (
        r"Stub process '[^']*' is not healthy",
        "it ended without a word (os._exit, a crash, killed for want of memory): try its initialize() by itself.",
    ),
    (
        r"no attribute 'TritonPythonModel'",
        "model.py must define `class TritonPythonModel`; a folder `model` beside model.py hides it: rename the folder.",
    ),
    (
        r"does not implement `execute`|Number of InferenceResponse objects do not match",
        "`def execute(self, requests)` in model.py returns a list with one InferenceResponse for each request.",
    ),
    (
        r"decoupled transaction policy",
        "it gives any number of answers: ask with `stream(...)` instead of `infer(...)`, `%triton_infer ... --stream`.",
    ),
    (
        r"use generate stream",
        "`generate_stream(...)` gives its answers one after another.",
    ),
    (
        r"must specify a non-zero or non-empty correlation ID",
        "it keeps a state for each sequence: say which with sequence_id=, and sequence_start=True for the first.",
    ),
    (
        r"must specify the START flag on the first request",
        "begin the sequence with sequence_start=True; one that has ended, or was idle for too long, begins anew.",
    ),
    (
        r"failed to poll from model repository",
        "the server's log holds the reason; often it is the config.pbtxt, or no version folder.",
    ),
    (
        r"killed by signal 9\b",
        "most often that is the kernel, for want of memory: give it more, or load fewer instances.",
    ),
)
# How a model gets to a server that has no backend for it.
_WAYS_OUT = {
    "pytorch": "export it with torch.onnx.export and serve the .onnx file",
    "tensorflow": "convert it (`python -m tf2onnx.convert --saved-model DIR --output model.onnx`) and serve the .onnx",
    "tensorrt": "serve the .onnx file that the plan was built from",
    "openvino": "serve the .onnx file that it was converted from",
}
_PLATFORMS = (
    "ensemble",
    "onnxruntime_onnx",
    "pytorch_libtorch",
    "tensorflow_graphdef",
    "tensorflow_savedmodel",
    "tensorrt_plan",
)

# A line of Triton's log (2.51): E1122 18:41:27.332856 32543 model_lifecycle.cc:642] "failed to load 'exits' version 1"
_LINE = re.compile(r'^[EW]\d{4} [\d:.]+ \d+ [\w.]+:\d+\] +"?(?P<text>.*?)"?$', re.MULTILINE)
_POLL = re.compile(r"Poll failed for model directory '[^']+': (?P<reason>.+)")
# What Python's faulthandler writes, between Triton's lines.
_CRASH = re.compile(
    r"^Fatal Python error: (?P<error>.+)\n(?P<frames>(?:\n|(?:Current t|T)hread .*\n| +File .*\n)+)", re.MULTILINE
)
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)')


def diagnose(text: str) -> str:
    """Return what to do about the first known cause in a server's words, or an empty text.

    Parameters
    ----------
    text
        A reason that the server gave, or lines of its log.
    """
    if found := re.search(r"unable to find backend library for backend '(?P<name>[^']*)'", text):
        return _without_backend(found["name"])
    if found := re.search(r"unexpected platform type '?(?P<name>[^' ]+)", text):
        if found["name"] in ("onnxruntime", "python", *_WAYS_OUT):
            return f'that is a backend: write `backend: "{found["name"]}"` in place of `platform`.'
        return nearest(found["name"], _PLATFORMS)
    for pattern, hint in _KNOWN:
        if found := re.search(pattern, text):
            return hint.replace("{name}", found.groupdict().get("name") or "")
    return ""


def load_error(model: str, answer: str, *, status: int = 0, log: str = "") -> ServerError:
    """Return the error of a model that could not be loaded, with the true reason and the cure.

    Parameters
    ----------
    model
        The model's name.
    answer
        What the server answered to the load, or what is left of it in the message of an error made here before.
    status
        The HTTP status of that answer.
    log
        The server's log, where it can be had: a crash and a bad configuration tell their reasons only there.
    """
    begin = f"model {model!r} could not be loaded: "
    reason = model_reason(answer.removeprefix(begin))
    if crash := crash_reason(model, log):
        return ServerError(f"{begin}its process crashed: {crash}", status=status, hint=_CRASHED)
    lines = list(dict.fromkeys(_errors_about(model, log)))
    if "failed to poll" in reason and (polled := [found["reason"] for found in map(_POLL.match, lines) if found]):
        return ServerError(begin + polled[-1], status=status, hint=diagnose(polled[-1]))
    more = [told for told in map(model_reason, lines) if told not in reason and reason not in told]
    return ServerError(begin + reason, status=status, hint=diagnose(reason), logs="\n".join(more[-_MOST_SHOWN:]))


def crash_reason(model: str, log: str) -> str:
    """Return of what and where a process of a model crashed since its last load, or an empty text.

    Parameters
    ----------
    model
        The model's name.
    log
        The server's log, of a server whose Python has its faulthandler enabled.
    """
    for crash in _CRASH.finditer(_since_load(model, log)):
        frames = [frame for frame in _FRAME.finditer(crash["frames"]) if f"/{model}/" in frame["file"]]
        if frames:
            where = f"{frames[0]['file']}({frames[0]['line']}): {frames[0]['function']}"
            return model_reason(f"{crash['error']} (at {where})")
    return ""


def still_loading(log: str) -> tuple[str, ...]:
    """Return the models whose load has begun and not ended, in order.

    Parameters
    ----------
    log
        The server's log.
    """
    begun = [found[1] for found in re.finditer(r'"loading: (.+):\d+"', log)]
    return tuple(
        model
        for model in dict.fromkeys(begun)
        if log.rfind(f'"loading: {model}:')
        > max(log.rfind(f"successfully loaded '{model}'"), log.rfind(f"failed to load '{model}'"))
    )


def _without_backend(name: str) -> str:
    close = nearest(name, ("onnxruntime", "python"))
    if name not in _WAYS_OUT and close.startswith("did you mean"):
        return close
    way_out = _WAYS_OUT.get(name, "serve it as ONNX or from a Python model")
    return f"{way_out}; the embedded server has the backends onnxruntime and python, NVIDIA's container more."


def _since_load(model: str, log: str) -> str:
    return log[max(0, log.rfind(f'"loading: {model}:')) :]


def _errors_about(model: str, log: str) -> Iterator[str]:
    """Yield Triton's warnings and errors that name the model, since its last load."""
    for line in _LINE.finditer(_since_load(model, log)):
        # "failed to load" gives the reason that the answer gives.
        if f"'{model}'" in line["text"] and not line["text"].startswith("failed to load '"):
            yield line["text"].replace("\\n", "\n").strip()
