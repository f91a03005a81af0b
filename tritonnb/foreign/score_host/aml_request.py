"""What a script imports as ``azureml.contrib.services.aml_request``."""

import io

from werkzeug.wrappers import Request

__all__ = ["AMLRequest", "rawhttp"]

raw_functions = []


def rawhttp(function):
    """Have ``run()`` called with the request itself."""
    raw_functions.append(function)
    return function


class AMLRequest(Request):
    """The request that a raw ``run()`` gets."""

    @classmethod
    def of(cls, request):
        """Return a request of the host in this form."""
        server = request.scope.get("server") or ("127.0.0.1", 80)
        client = request.scope.get("client") or ("", 0)
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query.decode("latin-1"),
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
            "SERVER_PROTOCOL": f"HTTP/{request.scope['http_version']}",
            "REMOTE_ADDR": client[0],
            "REMOTE_PORT": str(client[1]),
            "wsgi.url_scheme": request.scope["scheme"],
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.input_terminated": True,
        }
        for name, value in request.headers_by_name().items():
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
        return cls(environ)
