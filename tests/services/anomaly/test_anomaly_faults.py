"""Defects that are made up to measure by."""

import numpy as np
import pytest

from services.anomaly.faults import make_fault


def picture(shape, seed=0):
    return np.random.default_rng(seed).integers(60, 200, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(200, 300), (200, 300, 3)])
def test_a_fault_changes_a_little_of_a_copy(shape):
    image = picture(shape)
    before = image.copy()
    for seed in range(40):
        made = make_fault(image, None, np.random.default_rng(seed))
        changed = (made != image).reshape(*shape[:2], -1).any(axis=2)
        assert made.shape == image.shape
        assert made.dtype == np.uint8
        assert 0 < changed.mean() < 0.2
    assert np.array_equal(image, before)


def test_the_same_randomness_makes_the_same_fault_and_another_another():
    image = picture((100, 100))
    one, same, other = (make_fault(image, None, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_fault_lies_on_the_part():
    part = np.zeros((200, 200), dtype=bool)
    part[120:180, 30:90] = True
    image = picture((200, 200))
    for seed in range(40):
        changed = make_fault(image, part, np.random.default_rng(seed)) != image
        assert changed[part].any()
        assert not changed[:80].any()
        assert not changed[:, 130:].any()


@pytest.mark.parametrize("grey", [0, 255])
def test_black_and_white_parts_get_visible_faults(grey):
    image = np.full((100, 100), grey, np.uint8)
    shaded = [make_fault(image, None, np.random.default_rng(seed)) for seed in range(30)]
    assert sum((made != image).any() for made in shaded) >= 10  # of a plain one bends show nothing


def test_faults_go_from_faint_to_clear():
    image = np.full((200, 200), 128, np.uint8)
    contrasts = [
        int(np.abs(make_fault(image, None, np.random.default_rng(seed)).astype(int) - 128).max()) for seed in range(80)
    ]
    shown = [contrast for contrast in contrasts if contrast]
    assert min(shown) < 15
    assert max(shown) > 50


def test_a_tiny_image_is_no_trouble():
    image = picture((3, 4))
    assert all(make_fault(image, None, np.random.default_rng(seed)).shape == (3, 4) for seed in range(20))
