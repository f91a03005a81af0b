"""What goes from the web to the script and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs

HTML = (b"content-type", b"text/html; charset=utf-8")
JSON = (b"content-type", b"application/json")


@dataclass(slots=True)
class Request:
    """A request to ``/score``.

    Parameters
    ----------
    method, path, query
        Of the request's first line; the query undecoded.
    headers
        Lower-case names and values, as they came.
    body
        All of it.
    request_id
        What its lines in the log are marked with.
    scope
        The ASGI scope.
    """

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    request_id: str
    scope: dict

    def header(self, name: bytes) -> str:
        """Return a header; of one that is repeated, the first; empty where there is none."""
        return next((value.decode("latin-1") for known, value in self.headers if known == name), "")

    def headers_by_name(self) -> dict[str, str]:
        """Return the headers as a script gets them: names such as ``X-Request-Id``, repeated ones joined by commas."""
        joined: dict[str, str] = {}
        for name, value in self.headers:
            title, text = name.decode("latin-1").title(), value.decode("latin-1")
            joined[title] = f"{joined[title]},{text}" if title in joined else text
        return joined

    def parameters(self) -> dict[str, object]:
        """Return the query's parameters, each read as JSON where it is; a repeated one is a list."""
        parameters = parse_qs(self.query.decode(errors="replace"), keep_blank_values=True)
        read = {name: [_from_json(value) for value in values] for name, values in parameters.items()}
        return {name: values[0] if len(values) == 1 else values for name, values in read.items()}


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(slots=True)
class Answer:
    """What is sent back.

    Parameters
    ----------
    status
        The HTTP status.
    body
        All of it.
    headers
        Lower-case names and values, without those that every answer has.
    """

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, value: object, status: int = 200, *, run_failed: bool = False) -> Answer:
        """Return a value as JSON."""
        failed = b"True" if run_failed else b"False"
        return cls(status, json.dumps(value).encode(), [JSON, (b"x-ms-run-function-failed", failed)])

    @classmethod
    def refusal(cls, status: int, message: str, *, run_failed: bool = False) -> Answer:
        """Return a message that says why there is no result."""
        return cls.of({"message": message}, status, run_failed=run_failed)
