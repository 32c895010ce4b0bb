import numpy as np
import pytest

from services.saliency.temperature import fit_temperature, measure_by_halves, measure_calibration_error, soften


def draw(count, sharpness, seed=0):
    """Labels drawn from known probabilities, and logits that state them `sharpness` times too surely."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((count, 4))
    classes = np.array([rng.choice(4, p=row) for row in soften(logits, 1.0)])
    return sharpness * logits, classes


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_what_is_too_sure_or_too_shy(sharpness):
    assert fit_temperature(*draw(4000, sharpness)) == pytest.approx(sharpness, rel=0.1)


def test_calibration_lowers_the_error_on_images_that_it_was_not_fitted_on():
    logits, classes = draw(2000, 4.0)
    raw = measure_calibration_error(soften(logits, 1.0), classes)
    assert raw > 0.15
    assert measure_by_halves(logits, classes, np.arange(2000)) < raw / 3


def test_a_few_images_that_are_all_right_prove_no_certainty():
    logits = 30 * np.eye(2)[[0, 1] * 5]
    sureness = soften(logits, fit_temperature(logits, np.array([0, 1] * 5))).max(1)
    assert sureness == pytest.approx(11 / 12, abs=1e-3)


def test_the_error_is_the_gap_between_sureness_and_hits():
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert measure_calibration_error(probabilities, np.array([0] * 7 + [1] * 3)) == pytest.approx(0.2)
    assert measure_calibration_error(np.tile([1.0, 0.0], (5, 1)), np.zeros(5, int)) == 0


def test_one_group_alone_cannot_calibrate_and_measure():
    logits, classes = draw(50, 4.0)
    raw = measure_calibration_error(soften(logits, 1.0), classes)
    assert measure_by_halves(logits, classes, np.zeros(50, int)) == raw


def test_no_images_leave_probabilities_as_they_are():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1
