"""A picture goes in as the model's metadata asks for it: size, layout, channels, and pixels as the scaling says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tritonnb.client import ModelMetadata, TensorMetadata
from tritonnb.client.checks import check_inputs
from tritonnb.errors import InferenceError

NCHW, NHWC = (-1, 3, 4, 6), (-1, 4, 6, 3)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(size=(6, 4), mode="RGB"):
    """Return a picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def sent(value, shape=NCHW, datatype="FP32", scaling="", layout="", max_batch_size=4):
    tensor = TensorMetadata("x", datatype, shape, format=layout)
    return check_inputs(ModelMetadata("m", ("1",), "p", (tensor,), (), max_batch_size), {"x": value}, scaling)["x"]


def refused(*given, **more):
    with pytest.raises(InferenceError) as caught:
        sent(*given, **more)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("shape", "layout", "max_batch_size"),
    [
        (NCHW, "", 4),
        (NHWC, "", 4),
        ((-1, 3, -1, -1), "", 4),
        ((-1, -1, -1, 3), "", 4),
        ((-1, -1, -1, -1), "FORMAT_NHWC", 4),
        ((-1, -1, -1, -1), "FORMAT_NCHW", 4),
        ((3, 4, 6), "", 0),
        ((4, 6, 3), "FORMAT_NHWC", 0),
        ((1, 3, 4, 6), "", 0),
        ((-1, 4, 6, 3), "", 0),
    ],
)
def test_the_layout_is_known_from_the_models_shape_or_its_format(shape, layout, max_batch_size):
    array = sent(picture(), shape, layout=layout, max_batch_size=max_batch_size)

    pixels = np.asarray(picture(), "float32")
    channels_last = shape[-1] == 3 or layout == "FORMAT_NHWC"
    expected = pixels if channels_last else pixels.transpose(2, 0, 1)
    np.testing.assert_array_equal(array, expected if len(shape) == 3 else expected[None])
    assert array.dtype == np.float32


@pytest.mark.parametrize(("shape", "size"), [((-1, 3, 4, -1), (8, 4)), ((-1, 3, -1, 8), (8, 4)), (NCHW, (6, 4))])
def test_a_picture_of_another_size_is_resized_and_keeps_its_proportions_where_it_may(shape, size):
    assert sent(picture((16, 8)), shape).shape == (1, 3, *size[::-1])


def test_a_resized_picture_is_what_tritons_image_client_makes_of_it():
    image = Image.fromarray(np.arange(20 * 30 * 3, dtype="uint8").reshape(20, 30, 3))
    theirs = np.array(image.resize((6, 4), Image.Resampling.BILINEAR)).astype("float32") / 127.5 - 1

    np.testing.assert_array_equal(sent(image, scaling="inception"), theirs.transpose(2, 0, 1)[None])


@pytest.mark.parametrize(
    ("scaling", "red"),
    [
        ("", RED),
        ("none", RED),
        ("unit", (1, 0, 0)),
        ("inception", (1, -1, -1)),
        ("vgg", (255 - 123, -117, -104)),
        ("imagenet", ((1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225)),
    ],
)
@pytest.mark.parametrize("datatype", ["FP32", "FP16", "FP64"])
def test_pixels_are_scaled_as_the_model_was_trained(scaling, red, datatype):
    array = sent(picture(), datatype=datatype, scaling=scaling)

    np.testing.assert_allclose(array[0, :, 0, 0].astype("float64"), red, rtol=1e-3)
    assert array.dtype == {"FP32": "float32", "FP16": "float16", "FP64": "float64"}[datatype]


@pytest.mark.parametrize(
    ("mode", "channels", "white"),
    [
        ("L", 3, False),
        ("1", 3, False),
        ("P", 1, False),
        ("CMYK", 3, False),
        ("RGBA", 4, False),
        ("LA", 3, False),
        ("RGB", 1, False),
        ("I;16", 1, False),
    ],
)
def test_a_picture_of_any_mode_gets_the_channels_of_the_model(mode, channels, white):
    grey = Image.new("L", (6, 4), 255)
    image = Image.fromarray(np.full((4, 6), 65535, "uint16")) if mode == "I;16" else grey.convert(mode)
    assert image.mode == mode

    assert sent(image, (-1, channels, 4, 6), "UINT8").tolist() == [[[[255] * 6] * 4] * channels]


def test_sixteen_bits_are_scaled_to_eight_and_not_cut_off():
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], "uint16"))

    assert sent(image, (-1, 1, 1, 4), "UINT8").ravel().tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_laid_on_white():
    image = Image.new("RGBA", (6, 4), (0, 0, 0, 0))

    assert (sent(image, datatype="UINT8") == 255).all()
    assert (sent(image, (-1, 4, 4, 6), "UINT8") == 0).all()


def test_a_photograph_is_turned_upright(tmp_path):
    image = picture((4, 6)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees clockwise
    image.save(tmp_path / "photo.png", exif=exif)

    np.testing.assert_array_equal(sent(tmp_path / "photo.png", (-1, 6, 4, 3), "UINT8")[0], np.asarray(picture((4, 6))))


def test_a_picture_without_a_dimension_for_its_channels_is_grey():
    assert sent(picture((28, 28)), (-1, 28, 28), scaling="unit").shape == (1, 28, 28)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read_by_its_name(tmp_path, kind):
    picture().save(tmp_path / "picture.png")

    np.testing.assert_array_equal(sent(kind(tmp_path / "picture.png")), sent(picture()))


def test_several_pictures_are_a_batch(tmp_path):
    picture().save(tmp_path / "picture.png")

    assert sent([picture((60, 40)), tmp_path / "picture.png", str(tmp_path / "picture.png")]).shape == (3, 3, 4, 6)
    assert sent([picture()], (3, 4, 6), max_batch_size=0).shape == (3, 4, 6)


def test_more_pictures_than_fit_are_refused():
    assert refused([picture()] * 5)[0] == "model 'm' takes at most 4 in a batch, 5 were given."
    assert "takes one picture, 2 were given" in refused([picture()] * 2, (3, 4, 6), max_batch_size=0)[0]
    assert "of different sizes" in refused([picture(), picture((60, 40))], (-1, 3, -1, -1))[0]


def test_a_file_that_is_not_there_or_no_picture_is_told(tmp_path):
    broken = tmp_path / "broken.png"
    picture((600, 400)).save(broken)
    broken.write_bytes(broken.read_bytes()[:200])
    text = tmp_path / "text.png"
    text.write_text("no picture")

    message, hint = refused("absent.png")
    assert message == "the input 'x' takes a picture, and there is no file 'absent.png'."
    assert str(Path.cwd()) in hint
    for file in (broken, text, tmp_path):
        message, hint = refused(file)
        assert "cannot be read as a picture" in message
        assert hint


def test_a_scaling_that_is_not_known_or_cannot_be_held_is_refused():
    assert refused(picture(), scaling="incpetion")[1] == "did you mean 'inception'?"
    assert "cannot hold pixels of scaling 'unit'" in refused(picture(), datatype="UINT8", scaling="unit")[0]
    assert "is for RGB" in refused(picture(), (-1, 1, 4, 6), scaling="imagenet")[0]
    assert "no input is given one" in refused(np.zeros((1, 3, 4, 6), "float32"), scaling="unit")[0]


@pytest.mark.parametrize("shape", [(-1, 3), (-1, 5, 4, 6), (-1, -1, -1, -1), (-1, 2, 3, 4, 6)])
def test_an_input_that_has_no_pictures_shape_takes_none(shape):
    message, hint = refused(picture(), shape)

    assert "takes no pictures" in message
    assert "1, 3 or 4 channels" in hint


def test_a_model_that_takes_a_files_content_is_not_given_pixels():
    message, hint = refused(picture(), (-1, 1), "BYTES")

    assert "the content of a picture's file" in message
    assert "path" in hint


def test_pixels_of_unknown_range_are_refused():
    assert "32 bits" in refused(picture().convert("F"))[0]


def test_unscaled_pixels_in_an_array_are_refused_and_scaled_ones_and_masks_taken():
    pixels = np.asarray(picture()).transpose(2, 0, 1)[None]

    message, hint = refused(pixels)

    assert message == ("the input 'x' is uint8, pixels of 0 to 255, FP32 is expected: were they to be scaled first?")
    assert 'x.astype("float32")' in hint
    assert sent(pixels // 255).max() == 1
    assert sent(pixels, datatype="UINT8") is pixels
    assert sent(pixels.astype("float32")).max() == 255
    assert sent(np.array([[255]], "uint8"), (-1, 1)).tolist() == [[255]]
