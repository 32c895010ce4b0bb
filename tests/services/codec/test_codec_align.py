import math

import cv2
import numpy as np
import pytest
from codec_parts import PAPER, draw_part

from services.codec.align.akaze import AkazeAligner
from services.codec.align.pose import PoseAligner
from services.codec.background import find_contrast
from services.codec.geometry import apply, find_axis, invert, measure_overlap, rotate, scale_of, warp_mask


def truth_of(angle, centre):
    """The map from a part in that pose back to the reference's."""
    turn = np.array([[math.cos(-angle), -math.sin(-angle)], [math.sin(-angle), math.cos(-angle)]])
    return np.column_stack([turn, np.array([100.0, 100.0]) - turn @ np.array(centre)])


@pytest.fixture
def reference():
    return draw_part()


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.6, math.pi - 0.05, -2.2])
@pytest.mark.parametrize("centre", [(100.0, 100.0), (93.3, 108.7)])
def test_a_turned_and_shifted_part_comes_back_within_a_pixel(reference, angle, centre):
    picture, mask = draw_part(angle, centre, noise_seed=5)
    still = reference[0]
    found = PoseAligner(still, find_contrast(still)).align(picture, find_contrast(picture))
    corners = np.array([[45.0, 92.0], [148.0, 78.0], [148.0, 122.0]])
    sent = apply(np.linalg.inv(np.vstack([truth_of(angle, centre), [0, 0, 1]]))[:2], corners)
    assert found.aligned
    assert found.score > 0.9
    assert np.abs(apply(found.affine, sent) - corners).max() < 1.0
    assert measure_overlap(warp_mask(mask, found.affine, 200, 200), reference[1]) > 0.9


def test_a_larger_picture_of_the_same_part_aligns_by_scale(reference):
    picture, mask = draw_part(1.1)
    big = cv2.resize(picture, (420, 420), interpolation=cv2.INTER_CUBIC)
    found = PoseAligner(*reference).align(big, cv2.resize(mask.astype(np.uint8), (420, 420)) > 0)
    assert found.aligned
    assert math.isclose(math.sqrt(abs(np.linalg.det(found.affine[:, :2]))), 200 / 420, rel_tol=0.03)


def test_a_part_that_is_bent_keeps_its_shape(reference):
    picture, mask = draw_part(0.8)
    found = PoseAligner(*reference).align(picture, mask)
    assert np.allclose(found.affine[:, :2] @ found.affine[:, :2].T, np.eye(2), atol=1e-3)


@pytest.mark.parametrize(("transform", "scale"), [("rigid", 1.0), ("similarity", 1.04), ("affine", 1.04)])
def test_pose_scales_a_little_only_where_it_may(reference, transform, scale):
    picture, mask = draw_part(0.9)
    smaller = rotate(0.0, np.zeros(2), np.zeros(2)) / 1.04 + np.array([[0, 0, 4.0], [0, 0, 4.0]])
    drawn = cv2.warpAffine(picture, smaller, (200, 200), flags=cv2.INTER_CUBIC, borderValue=PAPER)
    found = PoseAligner(*reference, transform).align(drawn, warp_mask(mask, smaller, 200, 200))
    assert found.aligned
    assert scale_of(found.affine) == pytest.approx(scale, abs=0.012)


def test_an_affine_map_undoes_a_shear_that_a_similarity_cannot(reference):
    picture, mask = draw_part(0.0)
    shear = np.array([[1.0, 0.12, -12.0], [0.0, 1.0, 0.0]])
    drawn = cv2.warpAffine(picture, shear, (200, 200), flags=cv2.INTER_CUBIC, borderValue=PAPER)
    sheared = warp_mask(mask, shear, 200, 200)
    scores = {way: PoseAligner(*reference, way).align(drawn, sheared).score for way in ("similarity", "affine")}
    assert scores["affine"] > scores["similarity"] + 0.02


@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine"])
def test_akaze_finds_no_more_than_it_may(transform):
    random = np.random.default_rng(3)
    still = cv2.GaussianBlur(random.integers(0, 256, (240, 240), np.uint8), (0, 0), 2)
    still = cv2.normalize(still, None, 0, 255, cv2.NORM_MINMAX)
    true = np.array([[1.06, 0.10, -6.0], [-0.02, 0.97, 4.0]])
    drawn = cv2.warpAffine(still, invert(true), (240, 240), flags=cv2.INTER_CUBIC)
    everywhere = np.ones((240, 240), bool)
    linear = AkazeAligner(still, everywhere, transform).align(drawn, everywhere).affine[:, :2]
    if transform == "affine":
        assert np.allclose(linear, true[:, :2], atol=0.02)
    else:
        scale = 1.0 if transform == "rigid" else scale_of(np.column_stack([linear, [0, 0]]))
        assert np.allclose(linear @ linear.T, scale**2 * np.eye(2), atol=1e-6)


def nut(angle):
    """Six sides, one of them notched: the outline barely tells the pose, the picture does."""
    picture = np.full((200, 200), PAPER, np.uint8)
    corners = [
        (100 + 60 * math.cos(angle + k * math.pi / 3), 100 + 60 * math.sin(angle + k * math.pi / 3)) for k in range(6)
    ]
    cv2.fillPoly(picture, [np.round(np.array(corners) * 16).astype(np.int32)], 100, cv2.LINE_AA, 4)
    cv2.circle(picture, (100, 100), 28, PAPER, -1, cv2.LINE_AA)
    mark = (round(100 + 45 * math.cos(angle + 0.5)), round(100 + 45 * math.sin(angle + 0.5)))
    cv2.circle(picture, mark, 7, 30, -1, cv2.LINE_AA)
    return picture


@pytest.mark.parametrize("angle", [0.4, 2.0, -1.7])
def test_a_symmetric_outline_is_decided_by_the_picture(angle):
    reference = nut(0.0)
    found = PoseAligner(reference, find_contrast(reference)).align(nut(angle), find_contrast(nut(angle)))
    turned = math.atan2(found.affine[1, 0], found.affine[0, 0])
    assert found.aligned
    assert abs((turned + angle + math.pi) % (2 * math.pi) - math.pi) < 0.03


@pytest.mark.parametrize("aligner", [PoseAligner, AkazeAligner])
def test_something_else_is_reported_and_not_warped(reference, aligner):
    other = np.full((200, 200), PAPER, np.uint8)
    cv2.circle(other, (100, 100), 40, 90, -1)
    found = aligner(*reference).align(other, find_contrast(other))
    assert not found.aligned
    assert found.reason
    assert np.array_equal(found.affine, np.eye(3)[:2])


def test_a_picture_without_a_part_is_reported(reference):
    found = PoseAligner(*reference).align(np.full((200, 200), PAPER, np.uint8), np.zeros((200, 200), bool))
    assert (found.aligned, found.reason) == (False, "no part stands out from its background")


def textured(angle):
    random = np.random.default_rng(7)
    texture = cv2.resize(random.integers(0, 256, (40, 80), dtype=np.uint8), (240, 120), interpolation=cv2.INTER_CUBIC)
    to_place = cv2.getRotationMatrix2D((120, 60), math.degrees(-angle), 1.0)
    to_place[:, 2] += (80, 140)
    picture = cv2.warpAffine(texture, to_place, (400, 400), borderValue=PAPER)
    mask = cv2.warpAffine(np.full((120, 240), 255, np.uint8), to_place, (400, 400)) > 127
    return picture, mask


def test_akaze_brings_a_textured_part_back():
    picture, mask = textured(0.9)
    found = AkazeAligner(*textured(0.0)).align(picture, mask)
    assert found.aligned
    assert found.score > 0.9
    assert abs(math.atan2(found.affine[1, 0], found.affine[0, 0]) + 0.9) < 0.02


def test_a_masks_axis_is_the_parts():
    _, angle, elongation = find_axis(draw_part(0.5)[1])
    assert abs(angle - 0.5) < 0.05
    assert elongation > 3


def test_the_screws_align(real_data):
    paths = sorted((real_data("screw") / "test" / "bad").glob("*.png"))[:6]
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    small = [cv2.resize(picture, (512, 512), interpolation=cv2.INTER_AREA) for picture in pictures]
    aligner = PoseAligner(small[0], find_contrast(small[0]))
    assert min(aligner.align(one, find_contrast(one)).score for one in small) > 0.75
