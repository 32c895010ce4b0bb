from pathlib import Path

import cv2
import numpy as np
import pytest
from codec_parts import PAPER, draw_part

from services.codec.background import MODEL_FILE, find_border_colour, find_contrast, open_remover
from services.codec.geometry import measure_overlap
from services.codec.rembg_process import RembgProcess
from services.runtime.child import ChildLimits
from services.runtime.errors import FailedPrecondition, InvalidArgument, Unavailable

NOWHERE = Path("/models")


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5])
def test_a_dark_part_is_cut_out(angle):
    picture, truth = draw_part(angle, noise_seed=1)
    assert measure_overlap(find_contrast(picture), truth) > 0.9


def test_a_part_is_found_by_colour_alone():
    picture = np.full((120, 160, 3), (120, 120, 120), np.uint8)
    cv2.circle(picture, (80, 60), 30, (170, 90, 120), -1)  # as bright as the background
    truth = np.hypot(*np.meshgrid(np.arange(160) - 80, np.arange(120) - 60)) <= 30
    assert measure_overlap(find_contrast(picture), truth) > 0.95


def test_a_soft_shadow_is_not_part_of_the_part():
    picture, truth = draw_part(0.4)
    shadow = cv2.GaussianBlur(np.roll(truth, (9, 9), (0, 1)).astype(np.float32), (0, 0), 9)
    shaded = np.where(truth, picture, picture - 60 * shadow).astype(np.uint8)
    assert measure_overlap(find_contrast(shaded), truth) > 0.85


def test_a_highlight_is_filled_and_a_washers_hole_is_not():
    picture = np.full((200, 200), PAPER, np.uint8)
    cv2.circle(picture, (100, 100), 60, 80, -1)
    cv2.circle(picture, (100, 100), 25, PAPER, -1)
    cv2.circle(picture, (143, 100), 5, PAPER, -1)
    mask = find_contrast(picture)
    assert not mask[100, 100]
    assert mask[100, 143]


def test_nothing_stands_out_of_an_even_picture():
    noise = np.random.default_rng(0).normal(150, 2, (100, 100)).clip(0, 255).astype(np.uint8)
    assert find_contrast(np.full((100, 100), 150, np.uint8)).sum() == 0
    assert find_contrast(noise).mean() < 0.01


def test_large_pictures_give_masks_of_their_own_size():
    picture, truth = draw_part(0.3)
    big = cv2.resize(picture, (1500, 1500), interpolation=cv2.INTER_NEAREST)
    mask = open_remover("contrast", None, NOWHERE).find_part(big)
    assert mask.shape == (1500, 1500)
    assert measure_overlap(mask[::7, ::7], cv2.resize(truth.astype(np.uint8), (1500, 1500))[::7, ::7] > 0) > 0.9


def test_the_borders_colour_is_not_moved_by_a_part_that_touches_it():
    picture = np.full((100, 100, 3), (10, 200, 30), np.uint8)
    picture[:, :20] = 0
    assert find_border_colour(picture) == (10, 200, 30)


def test_auto_without_a_model_says_what_it_does_and_where_the_model_goes():
    remover = open_remover("auto", None, NOWHERE)
    assert remover.method == "contrast"
    assert f"put {MODEL_FILE} into {NOWHERE}" in remover.description


def test_rembg_without_a_model_is_refused_with_the_place_to_put_it():
    with pytest.raises(FailedPrecondition, match=f"put {MODEL_FILE} into {NOWHERE}") as caught:
        open_remover("rembg", None, NOWHERE)
    assert caught.value.reason == "WEIGHTS_MISSING"


def test_an_unknown_method_is_refused():
    with pytest.raises(InvalidArgument, match="'magic'"):
        open_remover("magic", None, NOWHERE)


def test_a_broken_model_is_an_error_and_no_hang(tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(b"no model")
    process = RembgProcess(tmp_path / MODEL_FILE)
    with pytest.raises(Unavailable, match="background removal process"):
        process.find_foreground(np.zeros((20, 20), np.uint8))
    process.close()


def test_rembg_cuts_out_a_part_and_its_process_is_replaced_in_time(real_data):
    process = RembgProcess(real_data("weights") / MODEL_FILE, ChildLimits(answers=2))
    try:
        remover = open_remover("auto", process, NOWHERE)
        path = next((real_data("screw") / "test" / "good").glob("*.png"))
        picture = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (384, 384), interpolation=cv2.INTER_AREA)
        masks = [remover.find_part(picture) for _ in range(3)]
    finally:
        process.close()
    assert remover.method == "rembg"
    assert process.started == 2
    assert measure_overlap(masks[0], find_contrast(picture)) > 0.8
    assert np.array_equal(masks[0], masks[2])
