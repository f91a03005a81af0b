"""The small pictures that stand beside classes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tritonnb.client.thumbnails import thumbnails


def opened(jpeg):
    return Image.open(io.BytesIO(jpeg))


@pytest.fixture
def tall(tmp_path):
    """Return the path of a picture of 640 x 320 pixels that its camera held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn it by 90 degrees
    Image.new("RGB", (640, 320), "blue").save(tmp_path / "tall.jpg", exif=exif)
    return tmp_path / "tall.jpg"


def test_pictures_and_names_of_files_are_shown_small_and_upright(tall):
    picture = Image.new("RGBA", (400, 300), "red")
    found = thumbnails({"a": tall, "b": [picture, str(tall)]})
    assert [(opened(jpeg).format, opened(jpeg).size) for jpeg in found] == [
        ("JPEG", (80, 160)),
        ("JPEG", (160, 120)),
        ("JPEG", (80, 160)),
    ]
    assert picture.size == (400, 300)


def test_nothing_else_is_taken_for_a_picture(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    others = {"x": np.zeros((2, 3)), "y": [[1, 2], [3, 4]], "t": "a text", "n": "nowhere.png", "k": None}
    assert thumbnails({**others, "f": tmp_path / "notes.png", "p": tmp_path / "gone"}) == []
