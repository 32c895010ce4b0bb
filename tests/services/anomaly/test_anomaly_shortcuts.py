import numpy as np
import pytest

from services.anomaly.shortcuts import describe_background, describe_brightness, judge_background, judge_brightness


def draw_images(count, seed, ground=120.0):
    random = np.random.default_rng(seed)
    images = random.normal(ground, 4, (count, 64, 64))
    images[:, 16:48, 16:48] = 40 + 10 * random.random((count, 1, 1))
    return images.clip(0, 255).astype(np.uint8)


def judge(good, bad, part=None):
    images = [*good, *bad]
    is_bad = np.array([False] * len(good) + [True] * len(bad))
    brightness = judge_brightness(np.array([describe_brightness(image) for image in images]), is_bad)
    background = judge_background(np.stack([describe_background(image, part) for image in images]), is_bad)
    return brightness, background


def test_images_that_differ_in_nothing_but_the_part_give_no_warning():
    for seed in range(5):
        brightness, background = judge(draw_images(40, seed), draw_images(40, 100 + seed))
        assert not background.flatters
        assert brightness.low <= 0.5 or brightness.auroc < 0.65


@pytest.mark.parametrize("ground", [110.0, 130.0])
def test_another_ground_under_bad_parts_is_found_whichever_is_brighter(ground):
    brightness, background = judge(draw_images(30, 1), draw_images(30, 2, ground))
    assert (brightness.name, background.name) == ("brightness", "background")
    assert brightness.flatters
    assert background.flatters
    assert 0.5 < background.low <= background.auroc <= background.high <= 1


def test_what_the_detector_looks_at_is_no_background():
    good, bad = draw_images(30, 1), draw_images(30, 2)
    bad[:, 24:40, 24:40] = 250  # the defect
    part = np.zeros((64, 64), dtype=np.bool_)
    part[12:52, 12:52] = True
    assert not judge(good, bad, part)[1].flatters
    bad[:, :12] = 90
    assert judge(good, bad, part)[1].flatters


def test_a_part_that_fills_quarters_leaves_them_as_they_are():
    image = draw_images(1, 3)[0]
    assert np.isfinite(describe_background(image, np.ones((64, 64), dtype=np.bool_))).all()
    assert np.isfinite(describe_background(image[:3, :3], None)).all()


def test_a_single_good_image_tells_nothing():
    assert not judge(draw_images(1, 1), draw_images(3, 2, 200.0))[1].flatters
