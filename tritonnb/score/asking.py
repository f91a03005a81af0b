"""One request to an entry script: what may be sent, and what comes back."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.client.transport import Transport
from tritonnb.endpoint import Endpoint
from tritonnb.errors import InferenceError, ScoringError

if TYPE_CHECKING:
    from tritonnb.client.connection import Answer
    from tritonnb.score.tier import ScoreTier

_JSON, _BYTES = "application/json", "application/octet-stream"
_OK = range(200, 300)
#: Beyond the tier's own limit, so that it is the tier that says what took too long.
_GRACE_S = 5.0


@dataclass(frozen=True)
class Body:
    """What is sent.

    Parameters
    ----------
    content
        Its bytes.
    kind
        Their media type.
    """

    content: bytes
    kind: str

    @classmethod
    def of(cls, data: object) -> Body:
        """Return data as a request's body.

        Parameters
        ----------
        data
            Bytes and the content of a `pathlib.Path` are sent as they are; a text too, called JSON, as Azure ML's
            ``run`` does. All else becomes JSON; numpy arrays, also within lists and dicts, as lists.

        Raises
        ------
        InferenceError
            There is no JSON for it.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            return cls(bytes(data), _BYTES)
        if isinstance(data, Path):
            try:
                return cls(data.expanduser().read_bytes(), _BYTES)
            except OSError as error:
                raise InferenceError(f"{data} cannot be read: {error.strerror}.") from error
        if isinstance(data, str):
            return cls(data.encode(), _JSON)
        try:
            return cls(json.dumps(data, default=_plain).encode(), _JSON)
        except (TypeError, ValueError) as error:
            raise InferenceError(
                f"The data cannot be written as JSON: {error}.",
                hint="give dicts, lists, numbers, text, arrays or bytes.",
            ) from error


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, pandas columns, torch tensors
        return value.tolist()
    raise TypeError(f"there is none for {type(value).__name__}")


def address_of(tier: ScoreTier) -> Endpoint:
    """Return where a tier answers, without a path, and its primary key where it asks for one."""
    headers = {"Authorization": f"Bearer {tier.keys[0]}"} if tier.plan.auth else {}
    return Endpoint(tier.url, headers=headers)


def ask(tier: ScoreTier, data: object, *, timeout: float | None = None) -> Any:
    """Send data to a tier's script and return its answer.

    Parameters
    ----------
    tier
        The tier.
    data
        See `Body.of`.
    timeout
        Seconds that it may take; else the script's own limit and a little.

    Returns
    -------
    Any
        JSON's values, text, or bytes, as the answer's media type says.

    Raises
    ------
    ScoringError
        The script failed, or the request was refused.
    ServerUnreachableError
        No answer came.
    """
    body = Body.of(data)
    transport = Transport(address_of(tier), timeout or tier.plan.timeout_s + _GRACE_S)
    try:
        answer = transport.request(
            "POST", "score", [body.content], headers={"Content-Type": body.kind, "Connection": "close"}, again=False
        )
    finally:
        transport.close()
    if answer.status not in _OK:
        raise _error(tier, answer)
    return read(answer)


def read(answer: Answer) -> Any:
    """Return the content of an answer as its media type says; as text what is called JSON and is none."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_json := kind == _JSON or kind.endswith("+json"):
        with suppress(ValueError):
            return json.loads(answer.body)
    return answer.body.decode(errors="replace") if is_json or kind.startswith("text/") else bytes(answer.body)


def _error(tier: ScoreTier, answer: Answer) -> ScoringError:
    request = answer.headers.get("x-ms-request-id", "")
    failed = answer.headers.get("x-ms-run-function-failed", "").lower() == "true"
    traceback = tier.traceback_of(request) if failed and request else ""
    content = read(answer) if answer.body else ""
    said = content.get("message", content) if isinstance(content, dict) else content
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    if traceback:
        message = f"The entry script failed: {tier.reason(traceback)}"
    else:
        message = f"/score answered {answer.status}: {said or 'nothing'}"
    return ScoringError(
        message,
        status=answer.status,
        request_id=request,
        traceback=traceback,
        hint="Triton asks for a key: send os.environ['TRITON_AUTHORIZATION'] as the header Authorization."
        if "expecting header 'Authorization'" in traceback
        else "",
    )
