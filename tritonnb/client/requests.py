"""An inference request as it goes over HTTP, and its answer as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonnb.client.checks import check_inputs
from tritonnb.client.results import InferResult
from tritonnb.client.tensors import HEADER_LENGTH, decode_answer, encode_request
from tritonnb.errors import InferenceError, RequestRefusedError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonnb.client.connection import Answer
    from tritonnb.client.options import InferOptions
    from tritonnb.client.results import ModelMetadata
    from tritonnb.errors import ServerError


def prepare(
    metadata: ModelMetadata, inputs: Mapping[str, object], options: InferOptions
) -> tuple[list[bytes | memoryview], dict[str, str]]:
    """Return a request's body, in parts, and its HTTP headers.

    Raises
    ------
    InferenceError
        The request does not fit the model.
    """
    outputs = wanted_outputs(metadata, options)
    parts, header_length = encode_request(
        check_inputs(metadata, inputs, options.scaling),
        outputs=outputs,
        request_id=options.request_id,
        classes=options.classes,
        parameters=request_parameters(options),
        binary=options.binary,
    )
    headers = {"Content-Type": "application/json"}
    if options.binary:
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(header_length)}
    if options.compression:
        from tritonnb.client.compression import compress  # noqa: PLC0415  (few ask for it)

        parts = [compress(parts, options.compression)]
        headers |= {"Content-Encoding": options.compression, "Accept-Encoding": options.compression}
    return parts, {**headers, **options.headers}


def wanted_outputs(metadata: ModelMetadata, options: InferOptions) -> Sequence[str] | None:
    """Return the outputs to ask for by name; None where the server gives all without being asked.

    Raises
    ------
    InferenceError
        The model has no such output, or one of text is asked for its classes.
    """
    names = [tensor.name for tensor in metadata.outputs]
    for name in options.outputs or ():
        if name not in names:
            raise InferenceError(f"model {metadata.name!r} has no output {name!r}.", hint=nearest(name, names))
    if options.classes:
        texts = [tensor.name for tensor in metadata.outputs if tensor.datatype == "BYTES"]
        for name in options.outputs or names:
            if name in texts:  # Triton 2.51 divides by the size of its datatype, and dies
                numbers = ", ".join(repr(other) for other in names if other not in texts)
                hint = f"choose outputs of numbers: {numbers}." if numbers else "ask without classes."
                raise InferenceError(
                    f"the output {name!r} holds text (BYTES), of which there are no classes.", hint=hint
                )
    return names if options.classes and options.outputs is None else options.outputs


def read_result(answer: Answer, placed: Mapping[str, memoryview] | None = None) -> InferResult:
    """Return the result that an answer of status 200 holds, or that lies ``placed`` in shared memory.

    Raises
    ------
    ServerError
        It cannot be read.
    """
    body: bytes | bytearray = answer.body
    if "content-encoding" in answer.headers:
        from tritonnb.client.compression import decompress  # noqa: PLC0415  (few ask for it)

        body = decompress(body)
    decoded = decode_answer(body, answer.headers.get(HEADER_LENGTH.lower()), placed)
    return InferResult(
        decoded.outputs,
        model=decoded.model,
        version=decoded.version,
        id=decoded.id,
        parameters=decoded.parameters,
    )


def refused(model: str, error: ServerError, metadata: ModelMetadata | None = None) -> RequestRefusedError:
    """Return the error of a request that the server or the model refused, with its reason and what to do.

    Parameters
    ----------
    model
        The model's name.
    error
        What the server answered.
    metadata
        What the model takes, as far as it is known.
    """
    from tritonnb.client.diagnosis import diagnose  # noqa: PLC0415  (only a failure needs it)
    from tritonnb.client.reasons import model_reason  # noqa: PLC0415
    from tritonnb.client.refusals import refusal_hint  # noqa: PLC0415

    reason = model_reason(error.message)
    return RequestRefusedError(
        f"model {model!r} answered with an error: {reason}",
        status=error.status,
        hint=error.hint or refusal_hint(reason, metadata) or diagnose(reason),
    )


def request_parameters(options: InferOptions) -> dict[str, Any]:
    """Return the request's parameters, Triton's own and the user's."""
    parameters: dict[str, Any] = dict(options.parameters)
    if options.sequence_id:
        parameters |= {
            "sequence_id": options.sequence_id,
            "sequence_start": options.sequence_start,
            "sequence_end": options.sequence_end,
        }
    if options.priority:
        parameters["priority"] = options.priority
    if options.queue_timeout is not None:
        parameters["timeout"] = round(options.queue_timeout * 1e6)  # Triton's unit is the microsecond
    return parameters
