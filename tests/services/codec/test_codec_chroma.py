from dataclasses import replace

import numpy as np
import pytest
from test_codec_encode import OPTIONS, Recorder

from services.codec.changes import NewItem
from services.codec.chroma import WORTH_KEEPING, choose_chroma, measure_chroma_loss
from services.codec.model import Codec
from services.runtime.manifest import ManifestLog


def part(*, hairline=False, seed=0):
    """A green part on grey; the hairline on it is red, one pixel wide, and as bright."""
    random = np.random.default_rng(seed)
    picture = np.full((120, 160, 3), 150, np.uint8)
    picture[30:90, 20:140] = (90, 140, 90)
    if hairline:
        picture[60, 40:120] = (185, 96, 80)
    return np.clip(picture + random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def test_noise_and_smooth_colour_lose_little_a_coloured_hairline_much():
    assert measure_chroma_loss(part()[40:80, 30:130]) < WORTH_KEEPING / 2
    assert measure_chroma_loss(part(hairline=True)[40:80, 30:130]) > WORTH_KEEPING


def test_grey_and_tiny_images_lose_nothing():
    assert measure_chroma_loss(np.zeros((40, 40), np.uint8)) == 0
    assert measure_chroma_loss(np.zeros((1, 1, 3), np.uint8)) == 0
    assert measure_chroma_loss(np.zeros((5, 3, 3), np.uint8)) == 0


@pytest.mark.parametrize(
    ("wanted", "codec", "loss", "chosen"),
    [
        ("auto", "hevc", 1.0, "420"),
        ("auto", "hevc", 9.0, "444"),
        ("auto", "av1", 9.0, "420"),
        ("420", "hevc", 9.0, "420"),
        ("444", "hevc", 0.0, "444"),
    ],
)
def test_what_is_asked_for_goes_before_what_is_measured(wanted, codec, loss, chosen):
    assert choose_chroma(wanted, codec, loss) == chosen


@pytest.mark.parametrize("hairline", [False, True])
def test_an_encoding_says_what_was_measured_and_used_and_keeps_the_colour(store, tmp_path, hairline):
    codec = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    codec.datasets.create("parts")
    smooth = [part(seed=seed)[40:80, 30:130] for seed in range(5)]
    fine = part(hairline=hairline, seed=9)[40:80, 30:130]
    codec.datasets.append("parts", [NewItem(f"p{n}", pixels, 1) for n, pixels in enumerate([*smooth, fine])])
    record = codec.encode(
        "parts", replace(OPTIONS, background="none", alignment="none", blank_background=False, crf=8), Recorder(), 2
    )
    assert (record.chroma_loss > WORTH_KEEPING) == hairline
    assert record.options.chroma == ("444" if hairline else "420")
    again = codec.encodings.find(codec.datasets.open("parts"))
    assert (again.options, again.chroma_loss) == (record.options, record.chroma_loss)
