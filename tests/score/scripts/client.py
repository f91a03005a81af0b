"""Makes its client in init() and uses it in run(), as the article's script does."""

import os

import tritonclient.http as tritonhttpclient

client = None


def init():
    global client  # noqa: PLW0603  (as such scripts are written)
    client = tritonhttpclient.InferenceServerClient(os.environ["TRITON_URL"])


def run(data):
    return [client.is_server_live(), client.get_model_metadata("m")["name"], data]
