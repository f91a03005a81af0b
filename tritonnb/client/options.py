"""What may be said of an inference request beside its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tritonnb.errors import InferenceError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
    decode
        Whether BYTES outputs become ``str`` objects instead of ``bytes``.
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
    decode: bool = False

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
