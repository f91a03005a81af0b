import socket
import sys

import numpy as np
import pytest
from PIL import Image

from tritonnb import samples
from tritonnb.errors import SpecError, TritonNbError


@pytest.mark.parametrize("name", samples.PICTURES)
def test_every_picture_comes_without_network(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("a sample picture asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    image = samples.picture(name)
    assert min(image.size) >= 224
    assert image.mode in {"RGB", "L"}


def test_an_unknown_picture_is_answered_with_the_nearest_and_all():
    with pytest.raises(SpecError, match="no sample picture 'chelsae'") as caught:
        samples.picture("chelsae")
    assert "did you mean 'chelsea'?" in str(caught.value)
    assert all(name in caught.value.message for name in samples.PICTURES)


def test_without_the_extra_a_picture_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(TritonNbError, match="need the package skimage") as caught:
        samples.picture("chelsea")
    assert caught.value.hint == "pip install 'tritonnb[samples]'"


@pytest.mark.parametrize(
    ("colour", "mode", "scaled"),
    [
        ((0, 128, 255), "RGB", [-1.0, 0.0, 0.9921875]),
        ((0, 128, 255, 7), "RGBA", [-1.0, 0.0, 0.9921875]),
        (64, "L", [-0.5, -0.5, -0.5]),
    ],
)
def test_pixels_become_colours_first_and_minus_one_to_one(colour, mode, scaled):
    x = samples.preprocess(Image.new(mode, (300, 100), colour))
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((1, 3, 224, 224), np.float32, True)
    assert x[0, :, 100, 100].tolist() == scaled
    assert (x == x[:, :, :1, :1]).all()


def test_rows_stay_rows_and_columns_stay_columns():
    image = Image.new("L", (224, 224))
    image.putpixel((200, 10), 255)  # column 200, row 10
    x = samples.preprocess(image)
    assert np.argwhere(x[0, 0] > 0).tolist() == [[10, 200]]


def test_several_pictures_make_a_batch_in_their_order():
    x = samples.preprocess(Image.new("L", (9, 9), 0), Image.new("RGB", (5, 7), (128, 128, 128)))
    assert x.shape == (2, 3, 224, 224)
    assert x[:, 0, 0, 0].tolist() == [-1.0, 0.0]


@pytest.mark.parametrize(("count", "height"), [(0, 240), (5, 240), (10, 470)])
def test_the_captioned_picture_has_room_for_each_prediction(count, height):
    image = samples.picture("camera")
    card = samples.captioned(image, [samples.Prediction("tripod", 0.5)] * count)
    assert (card.mode, card.size) == ("RGB", (680, height))
    assert image.size == (512, 512)
    bars = np.asarray(card)[:, 350] == (0x76, 0xB9, 0x00)
    assert np.count_nonzero(np.diff(bars.all(axis=1).astype(int)) == 1) == count
