"""Serves ONNX models: the ``model.py`` of Triton's python-based backend named ``onnxruntime``.

It stands where NVIDIA's C++ backend of the same name stands in the container, so that one repository serves
in both. The rules are therefore that backend's (github.com/triton-inference-server/onnxruntime_backend: its
README.md, and ``AutoCompleteConfig``, ``ValidateInputs`` and ``ValidateOutputs`` in src/onnxruntime.cc), with
the reason and the cure added to the errors. What it does not do, it refuses at load: BF16, ragged batching,
``batch_input``, ``batch_output``, implicit state, and execution accelerators for the CPU.

Runs in Triton's Python stub: standard library, numpy and onnxruntime only.
"""

import difflib
import itertools
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

# optimization.graph.level in config.pbtxt; anything else, and no level, is all of them.
GRAPH_OPTIMIZATION = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

DEFAULT_MAX_BATCH_SIZE = 4


class TensorInfo(NamedTuple):
    """One input or output of an ONNX model: dims are -1 where they are dynamic, ``()`` for a scalar."""

    name: str
    data_type: str
    shape: tuple[int, ...]


class TritonPythonModel:
    """One instance of one ONNX model, in the shape that Triton's Python stub calls."""

    @staticmethod
    def auto_complete_config(config):
        """Complete what config.pbtxt leaves out, as the C++ backend does.

        Nothing is done where inputs and outputs are both configured; of the two sides, an empty one is filled
        whole and one that lists anything is kept as it is.
        """
        written = config.as_dict()
        inputs_written = written.get("input") or written.get("batch_input")
        if inputs_written and written.get("output"):
            return config

        # Only names, types and shapes are wanted here: no optimisation, no threads. Half the time of a full session.
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.intra_op_num_threads = 1
        session = open_session(model_path(written), options, ["CPUExecutionProvider"])
        inputs, outputs = signature(session.get_inputs(), "input"), signature(session.get_outputs(), "output")

        unbatched = next((info for info in inputs + outputs if not info.shape or info.shape[0] != -1), None)
        if unbatched is None:
            if written["max_batch_size"] == 0:
                config.set_max_batch_size(default_max_batch_size())
            if written["max_batch_size"] > 1 and "sequence_batching" not in written:
                config.set_dynamic_batching()
        elif written["max_batch_size"] != 0:
            raise pb_utils.TritonModelException(
                "model does not support batching while non-zero max_batch_size is specified: "
                f"'{unbatched.name}' {describe_first_dimension(unbatched)}. "
                "Set max_batch_size: 0, or export every input and output with a dynamic first dimension."
            )

        batches = written["max_batch_size"] > 0
        if not inputs_written:
            for info in inputs:
                add_tensor(written["input"], config.add_input, info, batches)
        if not written.get("output"):
            for info in outputs:
                add_tensor(written["output"], config.add_output, info, batches)
        return config

    def initialize(self, args):
        """Open the session of this instance and check the configuration against the model."""
        config = json.loads(args["model_config"])
        refuse_unsupported(config)
        self.session = open_session(model_path(config), session_options(config), execution_providers(args))
        inputs = check_configuration(config, self.session)

        self.output_names = [output.name for output in self.session.get_outputs()]
        self.run_options = run_options(config)
        # Of most models this is empty, and requests pay nothing for it.
        self.prepare = {info.name: to_text for info in inputs if info.data_type == "TYPE_STRING"}
        self.prepare |= {info.name: to_scalar for info in inputs if not info.shape}
        self.prepare |= {
            info.name: to_scalar_text for info in inputs if not info.shape and info.data_type == "TYPE_STRING"
        }
        self.scalar_dims = {output["name"]: output["dims"] for output in config["output"]}

    def execute(self, requests):
        """Answer what the dynamic batcher delivers together, where possible from one session run.

        Triton takes an exception from here as the failure of the whole batch, so none leaves: where the
        joined run fails, each request is run alone and gets a response or an error of its own.
        """
        if len(requests) > 1:
            try:
                return self.joined(requests)
            except Exception:  # noqa: BLE001, S110  (the request to blame fails again below, and says why)
                pass
        return [self.alone(request) for request in requests]

    def alone(self, request):
        """Run one request by itself."""
        try:
            names = self.names_of(request.requested_output_names())
            return self.response(names, self.session.run(names, self.feed(request), self.run_options))
        except Exception as error:  # noqa: BLE001  (whatever it is, the stub must go on serving)
            return failure(error)

    def joined(self, requests):
        """Concatenate the inputs, run once, and give each request its rows of the outputs it asked for.

        Triton delivers only requests of equal shapes together, but for ragged inputs, which are refused at load.
        """
        feeds = [self.feed(request) for request in requests]
        requested = [request.requested_output_names() for request in requests]
        names = self.names_of(set().union(*requested))
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        values = dict(zip(names, self.session.run(names, batch, self.run_options), strict=True))

        stops = list(itertools.accumulate(len(next(iter(feed.values()))) for feed in feeds))
        if any(len(value) != stops[-1] for value in values.values()):
            raise ValueError("an output has not one row for each row of the input")
        responses = []
        for wanted, start, stop in zip(requested, [0, *stops], stops, strict=False):
            mine = self.names_of(wanted)
            responses.append(self.response(mine, [values[name][start:stop] for name in mine]))
        return responses

    def feed(self, request):
        """Input arrays by name; views of the request's shared memory, except for strings."""
        feed = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        for name, prepare in self.prepare.items():
            if name in feed:
                feed[name] = prepare(feed[name])
        return feed

    def names_of(self, requested):
        """Output names as the list that the session takes; the stub gives a set."""
        return self.output_names if len(requested) == len(self.output_names) else list(requested)

    def response(self, names, values):
        """Response of one request; a scalar takes its configured dims, since Triton has no rank 0."""
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, value if value.ndim else value.reshape(self.scalar_dims[name]))
                for name, value in zip(names, values, strict=True)
            ]
        )

    def finalize(self):
        """Let go of the model's memory before the stub ends."""
        self.session = None


def model_path(config):
    """Path of the ONNX file; a folder named like it holds model.onnx beside the model's external data."""
    path = Path(pb_utils.get_model_dir(), config.get("default_model_filename") or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path


def open_session(path, options, providers):
    """Open the model, or raise with what is wrong with the file."""
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.onnx"))
        cure = f"; rename {others[0]}, or set default_model_filename: '{others[0]}'" if others else ""
        raise pb_utils.TritonModelException(f"{path.name} is not there (looked for {path}){cure}")
    try:
        return ort.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:
        reason = onnxruntime_message(error)[1]
        if "Protobuf parsing failed" not in reason and "No graph was found" not in reason:
            raise pb_utils.TritonModelException(f"{path.name} cannot be loaded: {reason}") from error
        with path.open("rb") as file:
            pointer = file.read(40).startswith(b"version https://git-lfs")
        what = (
            "is a Git LFS pointer, not the model itself: run `git lfs pull`"
            if pointer
            else f"is not an ONNX model or is cut off ({path.stat().st_size} bytes): {reason}"
        )
        raise pb_utils.TritonModelException(f"{path.name} {what}") from error


def without_place(text):
    """Leave out what onnxruntime puts before some messages: the path, which is shown anyway, its C++ source."""
    text = re.sub(r"^(?:Load model from .*? failed:\s*)+", "", text)
    return re.sub(r"^/onnxruntime_src/\S+:\d+ .*?\)(?: const)? (?=[A-Z])", "", text)


def onnxruntime_message(error):
    """Turn onnxruntime's ``[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : text`` into number and text."""
    text = str(error).strip()
    found = re.match(r"\[ONNXRuntimeError\] : (\d+) : \w+ : (.*)", text, re.DOTALL)
    return (found[1], without_place(found[2])) if found else (None, text)


def signature(tensors, side):
    """Name, Triton type and shape of a session's inputs or outputs; raises for what Triton cannot carry."""
    infos = []
    for tensor in tensors:
        data_type = TRITON_TYPES.get(tensor.type)
        if data_type is None:
            raise pb_utils.TritonModelException(refusal(side, tensor))
        # A dynamic dimension is None, or the name that the exporter gave it.
        shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in tensor.shape)
        infos.append(TensorInfo(tensor.name, data_type, shape))
    return infos


def refusal(side, tensor):
    """Say why a tensor cannot be served and what to do about it."""
    if not tensor.type.startswith("tensor("):
        zipmap = " (scikit-learn: convert with options={'zipmap': False})" if "map(" in tensor.type else ""
        return (
            f"{side} '{tensor.name}' is {tensor.type}, and Triton carries tensors only: "
            f"export the model without it{zipmap}"
        )
    cure = "cast it to FP32 in the model" if tensor.type == "tensor(bfloat16)" else "cast it in the model"
    return f"{side} '{tensor.name}' is {tensor.type}, which is not supported here: {cure}."


def describe_first_dimension(info):
    """Say why this tensor cannot hold a batch."""
    if not info.shape:
        return "is a scalar (rank 0), which has no first dimension to batch on"
    return f"has the fixed first dimension {info.shape[0]} (shape {list(info.shape)})"


def add_tensor(tensors, add, info, batches):
    """Add one tensor's configuration; dims leave the batch dimension out and are never empty."""
    dims = list(info.shape[1:] if batches else info.shape)
    add({"name": info.name, "data_type": info.data_type, "dims": dims or [1]})
    if not dims and batches:
        # As in the C++ backend: a batch of scalars is [N, 1] outside, [N] inside. add_input() has no reshape.
        tensors[-1]["reshape"] = {"shape": []}


def default_max_batch_size():
    """``--backend-config=[onnxruntime,]default-max-batch-size=N`` of the server, else 4.

    Triton hands a python-based backend the settings of the backend ``python`` only, and at this point none at
    all, so the one place left to read it from is the command line of the server, this process's parent.
    """
    try:
        command = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return DEFAULT_MAX_BATCH_SIZE
    found = {}
    for argument in command:
        setting = re.fullmatch(r"(?:--backend-config=)?(onnxruntime,)?default-max-batch-size=(\d+)", argument)
        if setting:
            found[bool(setting[1])] = int(setting[2])
    return found.get(True, found.get(False, DEFAULT_MAX_BATCH_SIZE))


def refuse_unsupported(config):
    """Raise for what the C++ backend has and this one has not."""
    ragged = [tensor["name"] for tensor in config["input"] if tensor.get("allow_ragged_batch")]
    states = (config.get("sequence_batching") or {}).get("state")
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for what in (
        f"allow_ragged_batch on '{ragged[0]}'" if ragged else None,
        "batch_input" if config.get("batch_input") else None,
        "batch_output" if config.get("batch_output") else None,
        "implicit state (sequence_batching.state)" if states else None,
        "cpu_execution_accelerator" if accelerators.get("cpu_execution_accelerator") else None,
    ):
        if what:
            raise pb_utils.TritonModelException(
                f"{what} is not supported by this onnxruntime backend, written in Python: "
                "serve this model with NVIDIA's Triton container."
            )


def parameter(config, key):
    """Text of ``parameters { key: ... value: { string_value: ... } }``, or None."""
    return config.get("parameters", {}).get(key, {}).get("string_value")


def integer_parameter(config, key, allowed):
    """Return a parameter as an integer, or None where it is not set; ``allowed`` is checked and shown."""
    text = parameter(config, key)
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        value = None
    if value not in allowed:
        expected = f"{allowed[0]} or {allowed[1]}" if len(allowed) == 2 else "a whole number, 0 or more"  # noqa: PLR2004
        raise pb_utils.TritonModelException(f"parameter {key}: expected {expected}, got '{text}'")
    return value


def session_options(config):
    """Session options under the names that the C++ backend documents.

    Where ``intra_op_thread_count`` is not set, the instances share the cores: onnxruntime's default, every
    core for each of them, costs throughput when there are several. A written 0 still means that default.
    """
    options = ort.SessionOptions()
    level = config.get("optimization", {}).get("graph", {}).get("level")
    everything = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.graph_optimization_level = GRAPH_OPTIMIZATION.get(level, everything)

    switch, count = (0, 1), range(2**31)
    if integer_parameter(config, "execution_mode", switch):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    intra_op = integer_parameter(config, "intra_op_thread_count", count)
    options.intra_op_num_threads = threads_per_instance(config) if intra_op is None else intra_op
    options.inter_op_num_threads = integer_parameter(config, "inter_op_thread_count", count) or 0
    options.enable_cpu_mem_arena = integer_parameter(config, "enable_mem_arena", switch) != 0
    options.enable_mem_pattern = integer_parameter(config, "enable_mem_pattern", switch) != 0
    allocator = parameter(config, "session.use_device_allocator_for_initializers")
    if allocator is not None:
        options.add_session_config_entry("session.use_device_allocator_for_initializers", allocator)

    for library in config.get("model_operations", {}).get("op_library_filename", []):
        options.register_custom_ops_library(library)
    return options


def threads_per_instance(config):
    """Cores of this process, divided among the model's instances; at least 1."""
    instances = sum(group.get("count", 1) for group in config.get("instance_group", [])) or 1
    return max(1, len(os.sched_getaffinity(0)) // instances)


def run_options(config):
    """Options of every run, or None, which is the cheapest."""
    shrinkage = parameter(config, "memory.enable_memory_arena_shrinkage")
    if shrinkage is None:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", shrinkage)
    return options


def execution_providers(args):
    """Choose the execution providers for the kind of this instance."""
    if args["model_instance_kind"] != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise pb_utils.TritonModelException(
            f"instance_group is KIND_GPU, but the onnxruntime {ort.__version__} installed here is for the CPU: "
            "set instance_group [{ kind: KIND_CPU }], hide the GPUs (CUDA_VISIBLE_DEVICES=), or install "
            "onnxruntime-gpu in its place"
        )
    device = {"device_id": int(args["model_instance_device_id"])}
    return [("CUDAExecutionProvider", device), "CPUExecutionProvider"]


def check_configuration(config, session):
    """Raise where the configuration does not fit the model; return all inputs, overridable ones included."""
    optional = [tensor["name"] for tensor in config["input"] if tensor.get("optional")]
    if optional and config["max_batch_size"]:
        raise pb_utils.TritonModelException(
            f"optional input '{optional[0]}' is not supported for models that support batching: set max_batch_size: 0"
        )
    required = signature(session.get_inputs(), "input")
    # Initializers that are listed among the graph's inputs: a request may give them, and need not.
    overridable = signature(session.get_overridable_initializers(), "input")
    controls = (config.get("sequence_batching") or {}).get("control_input", [])
    written = [tensor for tensor in config["input"] if not tensor.get("optional")]
    if len(written) + len(controls) != len(required):
        given = {tensor["name"] for tensor in written + controls}
        missing = [info.name for info in required if info.name not in given]
        raise pb_utils.TritonModelException(
            f"configuration expects {len(written) + len(controls)} inputs, model provides {len(required)}"
            + (f": add {', '.join(missing)} to config.pbtxt, or leave all inputs out" if missing else "")
        )
    for tensor in config["input"]:
        check_tensor("input", tensor, required + overridable, config["max_batch_size"])
    for tensor in config["output"]:
        check_tensor("output", tensor, signature(session.get_outputs(), "output"), config["max_batch_size"])
    return required + overridable


def check_tensor(side, tensor, infos, max_batch_size):
    """Raise where one configured tensor differs from the model's in name, data type or dims."""
    name, data_type = tensor["name"], tensor["data_type"]
    info = next((info for info in infos if info.name == name), None)
    if info is None:
        names = [info.name for info in infos]
        nearest = difflib.get_close_matches(name, names, n=1)
        raise pb_utils.TritonModelException(
            f"unexpected inference {side} '{name}', allowed {side}s are: {', '.join(names)}"
            + (f". Did you mean '{nearest[0]}'?" if nearest else "")
        )
    if data_type != info.data_type:
        raise pb_utils.TritonModelException(
            f"configuration expects datatype {data_type} for {side} '{name}', model provides {info.data_type}"
        )

    dims = tensor["reshape"]["shape"] if tensor.get("reshape") else tensor["dims"]
    if max_batch_size and (not info.shape or info.shape[0] != -1):
        raise pb_utils.TritonModelException(
            f"max_batch_size is {max_batch_size}, but {side} '{name}' {describe_first_dimension(info)}. "
            "Set max_batch_size: 0, or export the model with a dynamic first dimension."
        )
    if not info.shape:
        if any(dim != 1 for dim in dims):
            raise pb_utils.TritonModelException(
                f"scalar tensor '{name}' takes dims: [ 1 ] in the configuration, not {dims}"
            )
        return
    complete = [-1, *dims] if max_batch_size else dims
    # A dynamic dimension of the model takes any input; the sizes of an output must be told as they are.
    fits = len(complete) == len(info.shape) and all(
        there == here or (there == -1 and side == "input") for there, here in zip(info.shape, complete, strict=True)
    )
    if not fits:
        batch = " (max_batch_size > 0 puts the batch dimension before dims)" if max_batch_size else ""
        raise pb_utils.TritonModelException(
            f"{side} '{name}': the model expects {len(info.shape)} dimensions (shape {list(info.shape)}) "
            f"but the configuration specifies {len(complete)} dimensions (shape {complete}){batch}"
        )


def to_text(array):
    """BYTES to ONNX strings: an object array of bytes to one of str."""
    return np.frompyfunc(bytes.decode, 1, 1)(array)


def to_scalar(array):
    """Drop the dimension that Triton needs and the model does not have."""
    return array.reshape(())


def to_scalar_text(array):
    """Do both; decoded first, because numpy's functions turn a rank-0 result into a plain str."""
    return to_text(array).reshape(())


def failure(error):
    """Response that carries one request's own error, in the C++ backend's words."""
    if isinstance(error, UnicodeDecodeError):
        text = f"a BYTES element is not valid UTF-8, which ONNX strings are: {error}"
        return pb_utils.InferenceResponse([], pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
    number, text = onnxruntime_message(error)
    text = f"onnx runtime error {number}: {text}" if number else f"{type(error).__name__}: {text}"
    return pb_utils.InferenceResponse([], pb_utils.TritonError(text, pb_utils.TritonError.INTERNAL))
