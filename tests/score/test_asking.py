"""What may be sent to an entry script, and what comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tritonnb.client.connection import Answer
from tritonnb.errors import InferenceError
from tritonnb.score.asking import Body, read

JSON, BYTES = "application/json", "application/octet-stream"


@pytest.mark.parametrize(
    ("data", "content", "kind"),
    [
        ({"text": "ü", "n": [1, 2.5, None, True]}, b'{"text": "\\u00fc", "n": [1, 2.5, null, true]}', JSON),
        ([1, 2], b"[1, 2]", JSON),
        (3, b"3", JSON),
        (None, b"null", JSON),
        ('{"as": "it is"}', b'{"as": "it is"}', JSON),
        ("no JSON", b"no JSON", JSON),
        (np.arange(4).reshape(2, 2), b"[[0, 1], [2, 3]]", JSON),
        ({"x": np.float32(1.5), "y": [np.array(["a"])]}, b'{"x": 1.5, "y": [["a"]]}', JSON),
        (b"\x00\x01", b"\x00\x01", BYTES),
        (bytearray(b"\x02"), b"\x02", BYTES),
        (memoryview(b"\x03"), b"\x03", BYTES),
    ],
)
def test_data_is_sent_as_json_or_as_it_is(data, content, kind):
    assert Body.of(data) == Body(content, kind)


def test_of_a_path_the_file_s_content_is_sent(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")

    assert Body.of(tmp_path / "cat.png") == Body(b"\x89PNG", BYTES)


@pytest.mark.parametrize("data", [object(), {"x": {1, 2}}, [lambda: 0]])
def test_what_has_no_json_is_refused_before_it_is_sent(data):
    with pytest.raises(InferenceError, match="cannot be written as JSON: there is none for"):
        Body.of(data)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InferenceError, match=r"dog\.png cannot be read: No such file"):
        Body.of(tmp_path / "dog.png")


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        ("application/json", json.dumps({"a": [1]}).encode(), {"a": [1]}),
        ("application/json; charset=utf-8", b'"text"', "text"),
        ("application/problem+json", b"{}", {}),
        ("text/html; charset=utf-8", "ü".encode(), "ü"),
        ("application/json", b"", ""),
        ("application/json", b"{no JSON", "{no JSON"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
        ("", b"", b""),
    ],
)
def test_an_answer_is_read_as_its_media_type_says(kind, body, value):
    assert read(Answer(200, {"content-type": kind}, bytearray(body))) == value
