import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from services.anomaly.pixels import PRO_LIMIT, PixelCurve
from services.runtime.errors import InvalidArgument


def draw(seed, count=4):
    """Heat that half precision holds exactly, with ties, and masks of several regions under it."""
    random = np.random.default_rng(seed)
    heat = random.integers(0, 50, (count, 20, 30)).astype(np.float32) / 8
    truth = np.zeros(heat.shape, dtype=np.bool_)
    truth[:, 2:6, 3:9] = truth[:, 10:18, 15:17] = truth[0, 19, 29] = True
    return heat + truth * 2, truth


def measure_pro(heat, truth):
    """Straight from the definition: every threshold, every region."""
    regions = []
    for image, mask in zip(heat, truth, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8))
        regions += [image[labels == number] for number in range(1, count)]
    x, y = [0.0], [0.0]
    for level in np.unique(heat)[::-1]:
        x.append(float((heat[~truth] >= level).mean()))
        y.append(float(np.mean([(region >= level).mean() for region in regions])))
    fine = np.linspace(0, PRO_LIMIT, 200_001)
    return float(np.interp(fine, x, y).mean())


@pytest.mark.parametrize("seed", range(3))
def test_pixel_auroc_over_many_images_is_that_of_all_their_pixels(seed):
    heat, truth = draw(seed)
    curve = PixelCurve()
    assert (curve.compute_auroc(), curve.compute_pro()) == (None, None)
    for image, mask in zip(heat, truth, strict=True):
        curve.add(image, mask)
    assert curve.compute_auroc() == pytest.approx(roc_auc_score(truth.ravel(), heat.ravel()), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_pro_is_what_its_definition_says(seed):
    heat, truth = draw(seed)
    curve = PixelCurve()
    for image, mask in zip(heat, truth, strict=True):
        curve.add(image, mask)
    assert curve.compute_pro() == pytest.approx(measure_pro(heat, truth), abs=1e-4)


def test_a_small_region_counts_as_much_as_a_large_one():
    truth = np.zeros((40, 40), dtype=np.bool_)
    truth[5:35, 5:15] = truth[20, 30] = True
    heat = np.zeros((40, 40), dtype=np.float32)
    heat[truth] = 1
    heat[20, 30] = 0
    curve = PixelCurve()
    curve.add(heat, truth)
    # From no false alarm on the large one is found; the small one only with all other cold pixels.
    assert curve.compute_pro() == pytest.approx(0.5 + 0.5 * PRO_LIMIT / 2, abs=1e-9)


def test_joined_curves_are_those_of_all_images():
    heat, truth = draw(1)
    parts = [PixelCurve() for _ in heat]
    whole = PixelCurve()
    for part, image, mask in zip(parts, heat, truth, strict=True):
        part.add(image, mask)
        whole.add(image, mask)
    joined = PixelCurve.join(parts)
    assert (joined.compute_auroc(), joined.compute_pro()) == (whole.compute_auroc(), whole.compute_pro())


def test_perfect_and_blind_heat():
    _, truth = draw(0)
    for heat, auroc, pro in ((truth.astype(np.float32), 1.0, 1.0), (np.zeros(truth.shape, np.float32), 0.5, 0.15)):
        curve = PixelCurve()
        for image, mask in zip(heat, truth, strict=True):
            curve.add(image, mask)
        assert curve.compute_auroc() == pytest.approx(auroc)
        assert curve.compute_pro() == pytest.approx(pro)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(InvalidArgument, match="shape of the image"):
        PixelCurve().add(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.bool_))
