"""What a script imports as ``azureml.contrib.services.aml_response``."""

import json

from werkzeug.wrappers import Response

from .contrib import raw_request
from .messages import Answer

__all__ = ["AMLResponse"]

SERVER_ERROR = 500
FRAMING = (b"connection", b"content-length", b"transfer-encoding")  # the host's own business


class AMLResponse(Response):
    """The response that a raw ``run()`` returns.

    Parameters
    ----------
    message
        Text or bytes; None is an empty JSON object.
    status_code
        The HTTP status.
    response_headers
        More headers; the values of one that is repeated are separated by commas.
    json_str
        The message is any object, sent as JSON.
    run_function_failed
        What the header ``x-ms-run-function-failed`` says.
    """

    def __init__(self, message, status_code, response_headers=None, json_str=False, run_function_failed=False):  # noqa: FBT002  (Azure ML's signature)
        if message is None or json_str:
            text = json.dumps({} if message is None else message)
            super().__init__(text, status=status_code, mimetype="application/json")
        else:
            super().__init__(message, status=status_code, content_type="text/html; charset=utf-8")
            if "Content-Type" in (response_headers or {}):
                self.headers.remove("Content-Type")
        self.headers["x-ms-run-function-failed"] = str(run_function_failed)
        for header, value in (response_headers or {}).items():
            for each in value.split(","):
                self.headers.add_header(header, each.strip())


def answer_of(response, request):
    """Return a werkzeug response as the host sends it; one in pieces is sent whole, for run() ends with its last."""
    if response.status_code >= SERVER_ERROR:
        response.headers["x-ms-run-function-failed"] = "True"
    pieces, _, headers = response.get_wsgi_response(raw_request(request).environ)
    sent = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    body = b"".join(pieces)
    response.close()
    return Answer(response.status_code, body, [pair for pair in sent if pair[0] not in FRAMING])
