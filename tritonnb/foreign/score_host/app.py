"""The tier's web face: a bare ASGI application that speaks Azure ML's entry-script contract."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from typing import TYPE_CHECKING

from .messages import HTML, Answer, Request

if TYPE_CHECKING:
    from .cross_origin import CrossOrigin
    from .keys import Keys
    from .log import Log
    from .runs import Runs
    from .swagger import Swagger

ID_LIMIT = 100  # characters
NOT_IN_LOG = re.compile(r"[^\x21-\x5a\x5e-\x7e]")  # in an id: a blank or bracket would forge a line
WITHOUT_BODY = (204, 304)
METHODS = {
    "/": ("GET", "HEAD", "OPTIONS"),
    "/score": ("GET", "HEAD", "OPTIONS", "POST"),
    "/swagger.json": ("GET", "HEAD", "OPTIONS"),
}
NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
DISCARD_S = 10.0  # how long the rest of a body that is too large is read before its connection is closed
REPLACED = "The worker of this connection is being replaced. Send the request again."


class _TooLargeError(Exception):
    pass


class _GoneError(Exception):
    pass


class App:
    """The application.

    Parameters
    ----------
    runs
        Where requests to ``/score`` go.
    swagger
        What ``/swagger.json`` answers.
    keys
        What every route but ``/`` wants; None where it wants nothing.
    cross_origin
        Which pages of other origins may call.
    max_body_bytes
        How much a request may bring.
    log
        Takes the access lines.
    """

    def __init__(
        self,
        *,
        runs: Runs,
        swagger: Swagger,
        keys: Keys | None,
        cross_origin: CrossOrigin,
        max_body_bytes: int,
        log: Log,
    ) -> None:
        self._runs = runs
        self._swagger = swagger
        self._keys = keys
        self._cross_origin = cross_origin
        self._max_body_bytes = max_body_bytes
        self._log = log
        self.leaving = False  # connections end with their next answer
        self.refusing = False  # the script's thread is stuck

    async def __call__(self, scope, receive, send):
        """Answer one request."""
        began = time.perf_counter()
        headers = dict(scope["headers"])
        path, method = scope["path"], scope["method"]
        request_id, id_headers, answer = _identify(headers)
        rest_of_body = False
        if answer is None:
            try:
                answer = await self._answer(scope, headers, request_id, receive)
            except _TooLargeError:
                answer = Answer.refusal(413, f"The request's body is larger than {self._max_body_bytes} bytes.")
                rest_of_body = True
            except _GoneError:
                return
        sent = [*answer.headers, *id_headers]
        if answer.status not in WITHOUT_BODY:
            sent.append((b"content-length", b"%d" % len(answer.body)))
        sent += self._cross_origin.headers(headers)
        if (trace_id := headers.get(b"traceid")) is not None:
            sent.append((b"traceid", trace_id))
        if self.leaving or rest_of_body:
            sent.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        if rest_of_body:
            # A connection closed on unread data is reset, and its client may never see the answer.
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            if headers.get(b"expect", b"").lower() != b"100-continue":  # such a client waits, and sends no body now
                await _discard(receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": answer.body})
        if path != "/":
            where, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")  # as they came
            took_ms = (time.perf_counter() - began) * 1000
            line = f"{method} {where}{query and '?'}{query} {answer.status} {took_ms:.3f}ms {len(answer.body)}"
            self._log.write(line, request_id)

    async def _answer(self, scope, headers, request_id, receive):
        path, method, query = scope["path"], scope["method"], scope["query_string"]
        if refused := self._refusal(path, method, headers):
            return refused
        if path == "/score":
            body = await self._body(headers, receive)
            request = Request(method, path, query, scope["headers"], body, request_id, scope)
            # ASGI tells that a client has gone only to who awaits it, which is a task more for each request.
            return await self._runs.answer(request, receive.__self__)
        if method == "OPTIONS":
            return Answer(200, b"", [HTML, (b"allow", _methods(path))])
        return Answer(200, b"Healthy", [HTML]) if path == "/" else self._swagger.answer(query)

    def _refusal(self, path, method, headers):
        """Return what is said to a request that gets no further, or None."""
        if path not in METHODS:
            return Answer.refusal(404, NOT_FOUND)
        if method not in METHODS[path]:
            refused = Answer.refusal(405, "The method is not allowed for the requested URL.")
            refused.headers.append((b"allow", _methods(path)))
            return refused
        if self._keys and path != "/":
            if self._cross_origin.is_preflight(method, headers):
                return Answer(200, b"", [HTML])  # without a key, which browsers do not send with it; no script sees it
            if not self._keys.accept(headers.get(b"authorization", b"")):
                refused = Answer.refusal(401, "A key of this deployment is needed: Authorization: Bearer KEY.")
                refused.headers.append((b"www-authenticate", b"Bearer"))
                return refused
        if self.refusing and path == "/score":
            refused = Answer.refusal(503, REPLACED)
            refused.headers.append((b"retry-after", b"1"))
            return refused
        return None

    async def _body(self, headers, receive):
        """Return a request's whole body."""
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise _TooLargeError
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _GoneError
            size += len(message["body"])
            if size > self._max_body_bytes:
                raise _TooLargeError
            if not message["more_body"] and not pieces:
                return message["body"]
            pieces.append(message["body"])
            if not message["more_body"]:
                return b"".join(pieces)


def _methods(path):
    return ", ".join(METHODS[path]).encode()


async def _discard(receive):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while (message := await receive())["type"] == "http.request" and message["more_body"]:
                pass


def _identify(headers):
    """Return a request's id for the log, the headers that tell it, and an answer where the given one is no good."""
    request_id = headers.get(b"x-request-id") or str(uuid.uuid4()).encode()
    logged_id = NOT_IN_LOG.sub("?", request_id.decode("latin-1"))
    if len(request_id) > ID_LIMIT:
        return "-", [], Answer.refusal(431, f"x-request-id must not exceed {ID_LIMIT} characters")
    legacy_id, client_id = headers.get(b"x-ms-request-id", b""), headers.get(b"x-ms-client-request-id", b"")
    if legacy_id:
        client_id = client_id or legacy_id
    else:
        legacy_id = client_id or request_id
    told = [(b"x-request-id", request_id)]
    if len(legacy_id) > ID_LIMIT or len(client_id) > ID_LIMIT:
        message = f"x-ms-request-id and x-ms-client-request-id must not exceed {ID_LIMIT} characters"
        return logged_id, told, Answer.refusal(431, message)
    told.append((b"x-ms-request-id", legacy_id))
    if client_id:
        told.append((b"x-ms-client-request-id", client_id))
    return logged_id, told, None
