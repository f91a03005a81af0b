"""Takes the request and its headers."""

from azureml_inference_server_http.api.aml_request import rawhttp


def init():
    pass


@rawhttp
def run(request, request_headers):
    return [request.method, request_headers["X-Mine"]]
