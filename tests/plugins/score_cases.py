"""Requests to the scripts of ``tests/score/scripts``, whichever host serves them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "score" / "scripts"


@dataclass(frozen=True)
class Case:
    """A request to a script."""

    name: str
    script: str
    body: str | bytes | tuple | None = None
    method: str = "POST"
    path: str = "/score"
    headers: dict = field(default_factory=dict)


def typed(content_type):
    return {"Content-Type": content_type}


JSON = typed("application/json")
UPLOAD = '--b\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nfile\r\n--b--\r\n'


def plain(wish, value, **more):
    return Case(f"{wish}: {value}", "plain", json.dumps({wish: value}), headers=JSON, **more)


RETURNED = re.findall(r'^    "([^"]*)":', (SCRIPTS / "plain.py").read_text(), re.MULTILINE)
RAW = re.findall(r"^def (send_\w+|fail)\(", (SCRIPTS / "raw.py").read_text(), re.MULTILINE)
DONE = re.findall(r"^def (?!init|run)(\w+)", (SCRIPTS / "plain.py").read_text(), re.MULTILINE)

CASES = [
    *(plain("return", name) for name in RETURNED),
    *(plain("do", name.replace("_", " ")) for name in DONE),
    plain("twice", "helper"),
    Case("no JSON", "plain", "no JSON", headers=JSON),
    Case("bytes that are no text", "plain", b"\xff", headers=JSON),
    Case("empty", "plain", "", headers=JSON),
    Case("text", "headers", "text", headers=typed("text/plain")),
    Case("no content type", "headers", "no type"),
    Case("curl's content type", "headers", '{"a": 1}', headers=typed("application/x-www-form-urlencoded")),
    Case("octets", "headers", "octets", headers=typed("application/octet-stream")),
    Case("several pieces", "headers", (b"one ", b"two"), headers={"Transfer-Encoding": "chunked"}),
    Case("query", "headers", method="GET", path="/score?a=1&b=[1,2]&c=x&d=null&e=1&e=y&f="),
    Case("query and body", "headers", "body", path="/score?a=1", headers=JSON),
    Case("no query", "headers", method="GET"),
    Case("script's options", "headers", method="OPTIONS"),
    Case("script's head", "headers", method="HEAD"),
    *(Case(f"refused {method}", "headers", method=method) for method in ("PUT", "DELETE", "PATCH")),
    Case("health", "headers", method="GET", path="/"),
    Case("health's options", "headers", method="OPTIONS", path="/"),
    Case("health's head", "headers", method="HEAD", path="/"),
    Case("refused to health", "headers", "x", path="/"),
    Case("not found", "headers", method="GET", path="/nowhere"),
    Case("not found either", "headers", "x", path="/score/"),
    Case("refused to swagger", "headers", "x", path="/swagger.json"),
    Case("request id", "headers", "1", headers={"x-request-id": "mine"}),
    Case("client's request id", "headers", "1", headers={"x-ms-client-request-id": "mine"}),
    Case("legacy request id", "headers", "1", headers={"x-ms-request-id": "mine"}),
    Case(
        "all ids",
        "headers",
        "1",
        headers={"x-request-id": "one", "x-ms-request-id": "two", "x-ms-client-request-id": "three", "TraceId": "four"},
    ),
    *(
        Case(f"long {name}", "headers", "1", headers={name: "x" * 101})
        for name in ("x-request-id", "x-ms-client-request-id", "x-ms-request-id")
    ),
    Case("id of 100", "headers", "1", headers={"x-request-id": "x" * 100}),
    Case("empty id", "headers", "1", headers={"x-request-id": ""}),
    Case("header twice", "headers", "1", headers={"x-mine": "a", "X-Mine": "b"}),
    *(Case(f"raw {name}", "raw", "abc", path=f"/score?do={name}") for name in RAW),
    *(Case(f"raw tell {method}", "raw", "a\xe4" * (method == "POST"), method, "/score?do=tell&a=1&a=2&b=%20",
           {"x-mine": "mine", "Cookie": "a=b"}) for method in ("POST", "GET", "OPTIONS")),
    Case("raw tell octets", "raw", b"\x00\xff", path="/score?do=tell", headers=typed("image/png")),
    Case("raw tell pieces", "raw", (b"one ", b"two"), path="/score?do=tell", headers={"Transfer-Encoding": "chunked"}),
    Case("raw JSON", "raw", '{"a": 1}', path="/score?do=read_json", headers=JSON),
    Case("raw broken JSON", "raw", "{", path="/score?do=read_json", headers=JSON),
    Case("raw no JSON", "raw", "{}", path="/score?do=read_json"),
    Case("raw form", "raw", "a=1&b=2", path="/score?do=read_form", headers=typed("application/x-www-form-urlencoded")),
    Case("raw upload", "raw", UPLOAD,
         path="/score?do=read_form", headers=typed("multipart/form-data; boundary=b")),
    Case("raw read twice", "raw", "abc", path="/score?do=read_twice"),
    Case("raw picture's bytes", "raw", b"\x01\x02", path="/score?do=read_data_only",
         headers=typed("application/octet-stream")),
    Case("refused raw", "raw", "x", method="PUT", path="/score?do=tell"),
    Case("raw headers", "raw_headers", "x", headers={"x-mine": "mine"}),
    Case("described", "schema", '{"numbers": [[1, 2]], "factor": 4}', headers=JSON),
    Case("described with defaults", "schema", '{"numbers": [[1, 2]]}', headers=JSON),
    Case("described with more", "schema", '{"numbers": [[1, 2]], "more": 4}', headers=JSON),
    Case("described with charset", "schema", '{"numbers": [[1, 2]]}', headers=typed("application/json; charset=utf-8")),
    Case("described with another JSON", "schema", '{"numbers": [[1, 2]]}', headers=typed("application/ld+json")),
    Case("described in the query", "schema", method="GET", path="/score?numbers=[[1,2]]&factor=5"),
    Case("described without", "schema", "{}", headers=JSON),
    Case("described of another type", "schema", '{"numbers": "x"}', headers=JSON),
    Case("described by a list", "schema", "[1]", headers=JSON),
    Case("described by no JSON", "schema", "{", headers=JSON),
    Case("described by nothing", "schema", "", headers=JSON),
    Case("described as text", "schema", '{"numbers": [[1, 2]]}', headers=typed("text/plain")),
    Case("described options", "schema", method="OPTIONS"),
    *(
        Case(f"swagger of {script}{query}", script, method="GET", path=f"/swagger.json{query}")
        for script in ("plain", "schema", "raw")
        for query in ("", "?version=2", "?version=3", "?version=3.0", "?version=3.1", "?version=4")
    ),
    Case("fast enough", "slow", "0.01"),
    Case("too slow", "slow", "30"),
    Case("after too slow", "slow", "0"),
    Case("client", "client", "1"),
    *(
        Case(f"page {name}", script, "1", method, headers=headers)
        for name, script, method, headers in (
            ("of one origin", "cors", "POST", {"Origin": "https://a.example"}),
            ("of another origin", "cors", "POST", {"Origin": "https://c.example"}),
            ("of none", "cors", "POST", {}),
            ("asking", "cors", "OPTIONS", {
                "Origin": "https://a.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type, x-mine",
            }),
            ("of any", "cors_all", "POST", {"Origin": "https://a.example"}),
            ("asking any", "cors_all", "OPTIONS", {
                "Origin": "https://a.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            }),
        )
    ),
]  # fmt: skip
