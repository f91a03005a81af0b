"""Takes the request itself, and returns every kind of response."""

from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from azureml_inference_server_http.api.aml_request import rawhttp as the_same
from werkzeug.wrappers import Response


def init():
    assert the_same is rawhttp


@rawhttp
def run(request):
    return globals()[request.args["do"]](request)


def tell(request):
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query_string.decode(),
        "arguments": request.args.getlist("a"),
        "type": request.content_type,
        "length": request.content_length,
        "body": request.get_data().decode("latin-1"),
        "agent": request.headers.get("User-Agent"),
        "mine": request.headers.get("x-mine"),
        "address": request.remote_addr,
        "url": request.url.partition("/score")[2],
        "cookies": request.cookies,
    }


def read_json(request):
    return request.get_json()


def read_form(request):
    return [request.form, {name: file.read().decode() for name, file in request.files.items()}]


def read_twice(request):
    return [request.get_data(cache=False).decode(), request.stream.read().decode(), request.data.decode()]


def read_data_only(request):
    return AMLResponse(request.get_data(cache=False)[::-1], 200)


def send_text(request):
    return AMLResponse("text", 200)


def send_picture(request):
    return AMLResponse(b"\x89PNG", 200, {"Content-Type": "image/png"})


def send_json(request):
    return AMLResponse({"a": 1}, 201, json_str=True)


def send_nothing(request):
    return AMLResponse(None, 200)


def send_headers(request):
    return AMLResponse("text", 200, {"X-Mine": "a, b", "Cache-Control": "no-store"})


def send_length(request):
    return AMLResponse("text", 200, {"Content-Length": "4"})


def send_bad_request(request):
    return AMLResponse("bad request", 500)


def send_gone(request):
    return AMLResponse("gone", 410, run_function_failed=True)


def send_unchanged(request):
    return AMLResponse("", 304)


def send_werkzeugs(request):
    return Response("werkzeug", 202, content_type="text/plain")


def send_pieces(request):
    return AMLResponse((piece for piece in ("one ", "two")), 200)


def send_cookie(request):
    response = AMLResponse("text", 200)
    response.set_cookie("a", "b")
    return response


def send_redirect(request):
    return AMLResponse("", 302, {"Location": "/elsewhere"})


def send_value(request):
    return [1, 2]


def fail(request):
    raise ValueError("no good")
