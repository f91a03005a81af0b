"""What may be said of an inference request beside its inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tritonnb.errors import InferenceError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonnb.client.shared_memory import SharedMemory

PROTOCOLS = ("http", "grpc")
#: Many requests that are in flight at once, where nobody says how many.
IN_FLIGHT = 8
COMPRESSIONS = ("gzip", "deflate")
#: What Triton itself reads from a request's parameters, and the option that says it here.
_RESERVED = {
    "sequence_id": "sequence_id",
    "sequence_start": "sequence_start",
    "sequence_end": "sequence_end",
    "priority": "priority",
    "timeout": "queue_timeout",
    "headers": "headers",
    "binary_data_output": "binary",
}
#: Headers that say how the request itself is framed.
_FRAMING = {
    "accept-encoding": "compression",
    "connection": "",
    "content-encoding": "compression",
    "content-length": "",
    "host": "",
    "inference-header-content-length": "",
    "transfer-encoding": "",
}
_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_LARGEST = 2**63 - 1  # of a parameter, in gRPC and in Triton itself


@dataclass(slots=True)
class InferOptions:
    """How a request is to be sent and answered; the defaults ask for all outputs of the version the server chooses.

    Parameters
    ----------
    outputs
        The outputs wanted, None for all.
    version
        One of the model's versions, else the one that the server chooses.
    request_id
        Given back in the result.
    timeout
        Seconds until the whole answer must be there, None for the client's own.
    classes
        Answer with the so many best classes of each output instead of its values (Triton's classification
        extension); 0 for the values.
    binary
        Whether tensors travel as bytes; False sends and asks for JSON, which people can read.
    priority
        Triton's request priority, 1 the highest; 0 for the model's own default.
    queue_timeout
        Seconds that the request may wait in the model's queue; None for the model's own default.
    parameters
        Custom parameters by name: str, bool, int or float. A Python model reads them from the request.
    sequence_id
        Of a stateful model: which sequence the request belongs to, a number or a text; 0 for none.
    sequence_start, sequence_end
        Whether it is the first, or the last, of its sequence.
    headers
        HTTP headers (with gRPC: metadata) of this request alone.
    compression
        ``"gzip"`` or ``"deflate"`` compresses the request's body and asks for such an answer; empty for neither.
    protocol
        ``"http"``, or ``"grpc"`` through tritonclient.
    scaling
        How the pixels of pictures are scaled, one of `tritonnb.client.pictures.SCALINGS`; empty for 0 to 255.
    decode
        Whether BYTES outputs become ``str`` objects instead of ``bytes``.
    shared_memory
        Where the tensors are handed over instead of being sent: to a server on this machine.

    Raises
    ------
    InferenceError
        A value that cannot be sent, or two options that exclude each other.
    """

    outputs: Sequence[str] | None = None
    version: str = ""
    request_id: str = ""
    timeout: float | None = None
    classes: int = 0
    binary: bool = True
    priority: int = 0
    queue_timeout: float | None = None
    parameters: Mapping[str, str | bool | float] = field(default_factory=dict)
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: str = ""
    protocol: str = "http"
    scaling: str = ""
    decode: bool = False
    shared_memory: SharedMemory | None = None

    def __post_init__(self) -> None:
        """Check what only costs a moment to check; the server would answer the rest in words of its own."""
        _check_choice("protocol", self.protocol, PROTOCOLS)
        if self.compression:
            _check_choice("compression", self.compression, COMPRESSIONS)
        if self.protocol == "grpc" and not self.binary:
            raise InferenceError("gRPC has no JSON.", hint="leave out binary=False, or protocol='grpc'.")
        if self.shared_memory is not None and (self.protocol == "grpc" or not self.binary or self.compression):
            raise InferenceError(
                "tensors go through shared memory with plain binary HTTP requests only.",
                hint="leave out protocol='grpc', binary=False and compression=.",
            )
        _check_count("classes", self.classes)
        _check_count("priority", self.priority)
        _check_seconds("timeout", self.timeout)
        _check_seconds("queue_timeout", self.queue_timeout)
        _check_sequence(self)
        if self.parameters:
            _check_is_mapping("parameters", self.parameters)
            _check_parameters(self.parameters)
        if self.headers:
            _check_is_mapping("headers", self.headers)
            _check_headers(self.headers)

    @property
    def plain(self) -> bool:
        """Whether ``outputs``, ``classes`` and ``version`` are all that makes the request's head."""
        return not (
            self.request_id
            or not self.binary
            or self.priority
            or self.queue_timeout is not None
            or self.parameters
            or self.sequence_id
            or self.headers
            or self.compression
            or self.scaling
        )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> InferOptions:
        """Return the options that keyword arguments name.

        Raises
        ------
        InferenceError
            There is no such option; the hint names the nearest.
        """
        try:
            return cls(**options)
        except TypeError:
            known = [option.name for option in fields(cls)]
            unknown = next(name for name in options if name not in known)
            raise InferenceError(
                f"an inference request has no option {unknown!r}.", hint=nearest(unknown, known)
            ) from None


def _check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InferenceError(f"{option}={value!r} is not known.", hint=nearest(str(value), choices))


def _check_count(option: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise InferenceError(f"{option}={value!r} is not a number from 0 up.")


def _check_seconds(option: str, value: float | None) -> None:
    if value is not None and not (type(value) in (int, float) and 0 < value < _LARGEST / 1e6):
        raise InferenceError(f"{option}={value!r} is not a number of seconds above 0.")


def _check_sequence(options: InferOptions) -> None:
    which = options.sequence_id
    if not which and (options.sequence_start or options.sequence_end):
        raise InferenceError(
            "sequence_start and sequence_end need a sequence_id.", hint="any number above 0, or a text."
        )
    if type(which) not in (int, str) or (isinstance(which, int) and not 0 <= which <= _LARGEST):
        raise InferenceError(
            f"sequence_id={which!r} does not name a sequence.", hint="it is a whole number above 0, or a text."
        )


def _check_is_mapping(option: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise InferenceError(f"{option}={value!r} is not a dict.", hint=f'it reads {option}={{"name": "value"}}.')


def _check_parameters(parameters: Mapping[Any, object]) -> None:
    for name, value in parameters.items():
        if name in _RESERVED or str(name).startswith("triton_"):
            option = f"use the option {_RESERVED[name]!r}." if name in _RESERVED else ""
            raise InferenceError(f"the parameter {name!r} is Triton's own.", hint=option)
        sent = (
            type(value) in (str, bool)
            or (type(value) is float and math.isfinite(value))
            or (type(value) is int and -_LARGEST <= value <= _LARGEST)
        )
        if not (isinstance(name, str) and sent):
            raise InferenceError(
                f"the parameter {name!r} cannot be {value!r} ({type(value).__name__}).",
                hint="parameters are str, bool, int of 64 bits or finite float; tensors are inputs.",
            )


def _check_headers(headers: Mapping[Any, object]) -> None:
    for name, value in headers.items():
        if not (isinstance(name, str) and _HEADER_NAME.fullmatch(name)):
            raise InferenceError(f"{name!r} is not a header's name.", hint="letters, digits, '-', '_' and '.'.")
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise InferenceError(f"the header {name!r} holds something other than printable ASCII.")
        if name.lower() in _FRAMING:
            option = _FRAMING[name.lower()]
            raise InferenceError(
                f"the header {name!r} belongs to the request itself.", hint=f"use {option}=." if option else ""
            )
