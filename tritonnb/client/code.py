"""A request as a command or a program that needs no tritonnb: curl's, or tritonclient's.

A key is never written: both take it from the environment variable ``TRITON_KEY``, and the values of headers that sound
secret from variables with the headers' names. What is too large for a line goes into a file beside it.
"""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from tritonnb.client.checks import check_inputs
from tritonnb.client.paths import model_path
from tritonnb.client.requests import prepare, request_parameters, wanted_outputs
from tritonnb.client.tensors import datatype_of
from tritonnb.errors import InferenceError, SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import ModelMetadata
    from tritonnb.endpoint import Endpoint

LANGUAGES = ("curl", "python")
KEY = "TRITON_KEY"
_SECRET = re.compile(r"authorization|cookie|credential|key|password|secret|token", re.IGNORECASE)
#: So many characters of JSON, or elements of an array, are written out; more go into a file.
_WRITTEN_JSON, _WRITTEN_ELEMENTS = 2000, 64


@dataclass(frozen=True, repr=False)
class Snippet:
    """A command or a program, and the files that it reads.

    Parameters
    ----------
    text
        To be copied.
    files
        Contents by name: they belong into the folder in which it runs.
    """

    text: str
    files: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: str | Path = ".") -> None:
        """Write the files that it reads."""
        for name, content in self.files.items():
            Path(folder, name).write_bytes(content)

    def __repr__(self) -> str:
        return self.text


def snippet(
    language: str,
    endpoint: Endpoint,
    metadata: ModelMetadata,
    inputs: Mapping[str, object],
    options: InferOptions,
    *,
    names: Mapping[str, str] | None = None,
) -> Snippet:
    """Return the request in a language of `LANGUAGES`.

    Parameters
    ----------
    language
        ``"curl"``, for a shell; or ``"python"``, which uses tritonclient.
    endpoint
        The server; its headers only where the request needs its key.
    metadata, inputs, options
        The request.
    names
        By input name, a Python expression for what was given, such as the variable's name.

    Raises
    ------
    InferenceError
        The request does not fit the model.
    SpecError
        There is no such language, or it cannot say the request.
    """
    if language == "curl":
        return _curl(endpoint, metadata, inputs, options)
    if language == "python":
        return _python(endpoint, metadata, inputs, options, names or {})
    raise SpecError(f"A request cannot be written in {language!r}.", hint=nearest(language, LANGUAGES))


def _curl(endpoint: Endpoint, metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions) -> Snippet:
    if options.protocol != "http":
        raise SpecError("curl cannot send a request over gRPC.", hint="leave the protocol out, or take --code.")
    files: dict[str, bytes] = {}
    sent = _headers(endpoint, options)
    parts, headers = _json_or_binary(metadata, inputs, replace(options, headers={}))
    body = b"".join(parts)
    if headers["Content-Type"] == "application/json" and not options.compression and len(body) <= _WRITTEN_JSON:
        data, output = ["--data-binary", shlex.quote(body.decode())], []
    else:
        files[_file(metadata.name, "request.bin")] = body
        data = ["--data-binary", f"@{_file(metadata.name, 'request.bin')}"]
        output = ["--output", _file(metadata.name, "answer.bin")]
    if headers.pop("Accept-Encoding", ""):
        output.append("--compressed")
    if options.timeout is not None:
        output += ["--max-time", f"{options.timeout:g}"]
    url = shlex.quote(f"{endpoint.url}/{model_path(metadata.name, options.version)}/infer")
    words = [
        f"curl --silent --show-error {url}",
        *(
            f'-H "{header.name}: {header.text}${header.variable}"'
            if header.variable
            else f"-H {shlex.quote(f'{header.name}: {header.text}')}"
            for header in sent
        ),
        *(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()),
        " ".join(data),
        *([" ".join(output)] if output else []),
    ]
    notes = [
        "# In a terminal, or in a cell that begins with %%bash.",
        *_about_variables(sent),
        *(f"# {name} is the request's body." for name in files),
    ]
    return Snippet("\n".join([*notes, " \\\n  ".join(words)]), files)


def _json_or_binary(
    metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions
) -> tuple[list[bytes | memoryview], dict[str, str]]:
    """Return body and headers as JSON, which people can read, if it is short; else as the request itself has them."""
    try:
        parts, headers = prepare(metadata, inputs, replace(options, binary=False))
        if sum(map(len, parts)) <= _WRITTEN_JSON or not options.binary:
            return parts, headers
    except InferenceError:  # JSON cannot hold every value, nor every datatype
        pass
    return prepare(metadata, inputs, options)


def _python(
    endpoint: Endpoint,
    metadata: ModelMetadata,
    inputs: Mapping[str, object],
    options: InferOptions,
    names: Mapping[str, str],
) -> Snippet:
    grpc = options.protocol == "grpc"
    files: dict[str, bytes] = {}
    given = []
    binary = "" if options.binary else ", binary_data=False"
    for name, array in check_inputs(metadata, inputs, options.scaling).items():
        values = _array_code(array, inputs[name], names.get(name, ""))
        if not values:
            file = _file(metadata.name, f"{name}.npy")
            files[file], values = _npy(array), f"np.load({file!r})"
        datatype = datatype_of(array.dtype)
        given += [
            f"inputs.append(triton.InferInput({name!r}, {list(array.shape)}, {datatype!r}))",
            f"inputs[-1].set_data_from_numpy({values}{binary})",
        ]
    count = f", class_count={options.classes}" if options.classes else ""
    outputs = options.outputs or [output.name for output in metadata.outputs]
    asked = wanted_outputs(metadata, options) or (outputs if binary else ())
    wanted = [f"triton.InferRequestedOutput({name!r}{binary}{count})" for name in asked]
    sent = _headers(endpoint, options)
    headers = _python_headers(sent, grpc=grpc)
    arguments = [
        repr(metadata.name),
        "inputs",
        *([f"outputs=[{', '.join(wanted)}]"] if wanted else []),
        *([f"headers={headers}"] if headers else []),
        *_python_options(options, grpc=grpc),
    ]
    lines = [
        *(["import os", ""] if any(header.variable for header in sent) else []),
        "import numpy as np",
        f"import tritonclient.{options.protocol} as triton  # pip install 'tritonclient[{options.protocol}]'",
        "",
        *_about_variables(sent),
        f"client = triton.InferenceServerClient({_address(endpoint, options, grpc=grpc)})",
        "inputs = []",
        *given,
        "result = client.infer(",
        *(f"    {argument}," for argument in arguments),
        ")",
        f"for name in {list(outputs)!r}:",
        "    print(name, result.as_numpy(name))",
    ]
    return Snippet("\n".join(lines), files)


def _array_code(array: NDArray[Any], given: object, expression: str) -> str:
    """Return an input as an expression: its own or its values written out; empty where they are too many."""
    dtype = _dtype_for_tritonclient(array)
    if expression and isinstance(given, np.ndarray) and given.shape == array.shape:
        return f"np.asarray({expression}, {dtype!r})"
    plain = array.astype(dtype)
    if dtype != "object" and (plain.size > _WRITTEN_ELEMENTS or not np.isfinite(plain).all()):
        return ""
    return f"np.array({plain.tolist()!r}, {dtype!r}).reshape({list(plain.shape)})"


def _file(model: str, what: str) -> str:
    return re.sub(r"[^\w.-]", "_", f"{model}-{what}")  # an input's name may hold a slash


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array.astype(_dtype_for_tritonclient(array)))
    return file.getvalue()


def _dtype_for_tritonclient(array: NDArray[Any]) -> str:
    if array.dtype.name == "bfloat16":
        return "float32"  # which tritonclient cuts off to bfloat16
    return "object" if array.dtype.kind in "OSU" else array.dtype.name


@dataclass(frozen=True)
class _Header:
    """A header whose value is a text and, after it, that of an environment variable, if one is named."""

    name: str
    text: str
    variable: str = ""


def _headers(endpoint: Endpoint, options: InferOptions) -> list[_Header]:
    """Return the headers to be written, of which no secret is."""
    headers = []
    for name, value in endpoint.headers.items():
        scheme, space, _ = value.partition(" ")
        headers.append(_Header(name, scheme + space if space else "", KEY))
    for name, value in options.headers.items():
        secret = _SECRET.search(name)
        headers.append(_Header(name, "" if secret else value, re.sub(r"\W", "_", name).upper() if secret else ""))
    return headers


def _about_variables(headers: list[_Header]) -> list[str]:
    return [
        f"# The environment's {header.variable} is "
        + ("the server's key." if header.variable == KEY else f"the value of {header.name}.")
        for header in headers
        if header.variable
    ]


def _python_headers(headers: list[_Header], *, grpc: bool) -> str:
    entries = []
    for header in headers:
        value = f'f"{header.text}{{os.environ[{header.variable!r}]}}"' if header.variable else repr(header.text)
        names = [header.name.lower() if grpc else header.name]
        if grpc and header.variable == KEY:
            # Triton wants the restricted protocol's key under a name of its own; a proxy in front wants the usual one.
            names.append(f"triton-grpc-protocol-{names[0]}")
        entries += [f"{name!r}: {value}" for name in names]
    return f"{{{', '.join(entries)}}}" if entries else ""


def _python_options(options: InferOptions, *, grpc: bool) -> list[str]:
    parameters = request_parameters(options)
    arguments = {
        "model_version": options.version,
        "request_id": options.request_id,
        **{key: parameters.pop(key, None) for key in ("sequence_id", "sequence_start", "sequence_end")},
        "priority": parameters.pop("priority", None),
        "timeout": parameters.pop("timeout", None),
        "parameters": parameters,
    }
    if grpc:
        arguments |= {"client_timeout": options.timeout, "compression_algorithm": options.compression}
    else:
        arguments["request_compression_algorithm"] = options.compression
        arguments["response_compression_algorithm"] = options.compression
    return [f"{key}={value!r}" for key, value in arguments.items() if value]


def _address(endpoint: Endpoint, options: InferOptions, *, grpc: bool) -> str:
    secure = ", ssl=True" if endpoint.url.startswith("https:") else ""
    if grpc:
        if not endpoint.grpc_url:
            raise SpecError("The gRPC address is not known.", hint="connect(url, grpc_url='host:8001').")
        return repr(endpoint.grpc_url) + secure
    parts = urlsplit(endpoint.url)
    timeout = f", network_timeout={options.timeout:g}" if options.timeout is not None else ""
    return repr(parts.netloc + parts.path) + secure + timeout
