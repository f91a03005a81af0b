"""A connection to a server that somebody else runs: over http, https and base paths, with and without a key."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError, ServerError, ServerUnreachableError, SpecError

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes requests below ``/models/triton`` on to the server at ``target``."""

    protocol_version = "HTTP/1.1"
    target = ""

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.removeprefix("/models/triton")
        if path == self.path:
            self._answer(404, {}, b"no such page")
            return
        request = urllib.request.Request(self.target + path, body or None, dict(self.headers), method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                self._answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.headers, error.read())

    do_GET = do_POST = _pass_on  # noqa: N815  (the standard library's names)

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name in ("Content-Type", "Inference-Header-Content-Length"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler, tls=None):
    """Serve with a handler on a free port; gives the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answering(status: int, content: object) -> type[http.server.BaseHTTPRequestHandler]:
    """A server that gives every request the same answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return type("Same", (Proxy,), {"_pass_on": None, "do_GET": lambda self: self._answer(status, {}, body)})


@pytest.fixture(scope="module")
def deployment(tmp_path_factory, square):
    """A deployment whose every answer needs the key."""
    folder = tmp_path_factory.mktemp("connect") / "models" / "square" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    with tn.deploy(folder.parents[1], name="connected-to", auth=True) as dep:
        yield dep


@pytest.fixture
def key(deployment):
    (key,) = deployment.get_keys()
    return key


@pytest.fixture
def proxy(deployment):
    return type("ToDeployment", (Proxy,), {"target": deployment.url})


def test_everything_that_needs_no_process_works_over_a_connection(deployment, key):
    with tn.connect(
        deployment.url, key=key, name="far", grpc_url=deployment.grpc_url, metrics_url=deployment.metrics_url
    ) as far:
        assert tn.deployment() is far
        assert tn.deployment("connected-to") is deployment
        assert far.state == "ready"
        assert far.health().ready
        assert [model.name for model in far.models()] == ["square"]
        assert far.metadata("square").inputs[0].name == "x"
        assert far.config("square")["backend"] == "onnxruntime"
        assert far.statistics("square")
        assert "nv_inference" in far.metrics()
        np.testing.assert_array_equal(far.infer("square", {"x": X})["y"], X * X)
        assert far.client("grpc").is_server_ready()
        far.unload("square")
        far.load("square")
        assert key not in repr(far) + repr(far.endpoint)
    assert far.state == "stopped"
    assert deployment.health().ready
    assert tn.deployment() is deployment
    with pytest.raises(DeploymentError, match="Connection 'far' was closed"):
        far.models()
    far.delete()


@pytest.mark.parametrize("base", ["/models/triton", "/models/triton/"])
def test_a_base_path_is_kept(base, proxy, key):
    with serving(proxy) as address, tn.connect(address + base, key=key) as far:
        np.testing.assert_array_equal(far.infer("square", {"x": X})["y"], X * X)
        assert far.name == f"{address.removeprefix('http://')}/models/triton"
        assert far.health().ready


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.requires("openssl")
def test_https_is_refused_where_the_certificate_is_not_trusted_and_works_where_it_is(
    proxy, key, certificate, monkeypatch
):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    with serving(proxy, tls) as address:
        with pytest.raises(ServerUnreachableError, match=r"(?s)no TLS connection to https.*self-signed.*SSL_CERT_FILE"):
            tn.connect(f"{address}/models/triton", key=key)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        with tn.connect(f"{address}/models/triton", key=key) as far:
            np.testing.assert_array_equal(far.infer("square", {"x": X})["y"], X * X)
        with pytest.raises(ServerError, match=r"127.0.0.1"):
            tn.connect(address.replace("https", "http"))


@pytest.mark.parametrize("wrong", ["", "not-the-key"])
def test_a_missing_or_wrong_key_is_said_to_be_one(wrong, deployment):
    before = tn.deployments()
    with pytest.raises(ServerError, match="key is missing or wrong") as caught:
        tn.connect(deployment.url, key=wrong)
    assert caught.value.status == 403
    assert "not-the-key" not in str(caught.value)
    assert tn.deployments() == before


def test_where_nothing_answers_it_says_so(eventually):
    with serving(Proxy) as address:
        pass
    with pytest.raises(ServerUnreachableError, match=f"nothing listens at {address}"):
        tn.connect(address)


@pytest.mark.parametrize(
    ("status", "content"),
    [(404, {"detail": "Not Found"}), (200, b"<html>hello</html>"), (200, {"hello": 1}), (200, [1]), (500, b"oops")],
    ids=["an API", "a page", "an object", "a list", "a failure"],
)
def test_what_is_no_v2_server_is_told_from_one(status, content):
    with (
        serving(answering(status, content)) as address,
        pytest.raises(ServerError, match="answers, but not as a v2 inference server does"),
    ):
        tn.connect(address)


def test_a_server_that_tells_little_is_healthy_nevertheless():
    class Plain(Proxy):
        def do_GET(self):
            self._answer(200, {}, b'{"name": "another", "version": "1", "extensions": []}')

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(404, {}, b'{"error": "no such route"}')

    with serving(Plain) as address, tn.connect(address, name="plain") as far:
        health = far.health()
        assert (health.state, health.live, health.ready, list(health.models)) == ("ready", True, True, [])


def test_a_server_that_goes_away_has_failed(proxy, key):
    proxy.protocol_version = "HTTP/1.0"  # closes every connection, as a server does that ends
    with serving(proxy) as address:
        far = tn.connect(f"{address}/models/triton", key=key, name="wanders")
        assert far.state == "ready"
    with far:
        assert far.state == "failed"
        assert repr(far) == "<Connection 'wanders': failed>"
        health = far.health()
        assert (health.state, health.live, health.ready) == ("failed", False, False)
        with pytest.raises(ServerUnreachableError, match="nothing listens"):
            far.infer("square", {"x": X})


def test_names_are_unique_among_connections_and_deployments(deployment, key):
    with pytest.raises(DeploymentError, match=r"The name 'connected-to' is taken: <Deployment 'connected-to'"):
        tn.connect(deployment.url, key=key, name="connected-to")
    first = tn.connect(deployment.url, key=key, name="one")
    with tn.connect(f"{deployment.url}/", key=key, name="one") as again:  # the same server: connected anew
        assert first.state == "stopped"
        assert tn.deployment("one") is again
        with serving(answering(200, {"name": "x"})) as elsewhere, pytest.raises(DeploymentError, match="is taken"):
            tn.connect(elsewhere, name="one")
        with pytest.raises(DeploymentError, match="'one' is a connection of this kernel"):
            tn.deploy(deployment.spec, name="one")
    assert "one" not in [handle.name for handle in tn.deployments()]


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://user:secret@host", "http://host:port"])
def test_what_is_no_address_is_said_to_be_none(url):
    with pytest.raises(SpecError, match="is not the address of a server"):
        tn.connect(url)


def test_without_a_scheme_it_is_http_and_the_metrics_are_where_they_are_said_to_be(deployment, key):
    with tn.connect(deployment.url.removeprefix("http://"), key=key) as far:
        assert far.url == deployment.url
        with pytest.raises(SpecError, match="address of the metrics"):
            far.metrics()
        with pytest.raises(SpecError, match="gRPC address is not known"):
            far.client("grpc")
