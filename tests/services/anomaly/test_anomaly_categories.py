import copy
from dataclasses import replace

import numpy as np
import pytest
from anomaly_parts import CPU, draw_part, draw_parts, draw_ring, enroll_kinds, enroll_parts, make_standard, train_parts

from services.anomaly.curves import compute_auroc
from services.anomaly.engines.losses import L2_SOFTMAX
from services.anomaly.entries import Calibration, Limit
from services.anomaly.model import Detector
from services.anomaly.snapshot import Snapshot
from services.anomaly.training import MetricOptions, PadimOptions, PatchOptions
from services.anomaly.watched import Watched
from services.runtime.errors import FailedPrecondition, NotFound

PATCHES = {
    "anywhere": PatchOptions(192),
    "same place": PatchOptions(192, same_place=True),
    "gaussians": PadimOptions(192, 20),
}
ENGINES = PATCHES | {"outlier factor": MetricOptions("original", L2_SOFTMAX, class_count=2, epochs=1, input_side_px=64)}


@pytest.fixture(scope="session")
def kinds(raw_model):
    return enroll_kinds(raw_model)


@pytest.mark.parametrize("options", PATCHES.values(), ids=PATCHES)
def test_each_part_is_judged_as_its_kind_and_its_defects_are_found(options):
    detector = enroll_kinds(train_parts(options))
    for kind, draw in (("bar", draw_part), ("ring", draw_ring)):
        images = [draw(500 + number, defect=number >= 6) for number in range(12)]
        judged = [detector.assign(image) for image in images]
        assert {category for category, _ in judged} == {kind}
        assert compute_auroc(np.array([score for _, score in judged]), np.arange(12) >= 6) > 0.95


def test_a_score_is_that_of_a_detector_of_the_category_alone(kinds, raw_model):
    bars = enroll_parts(raw_model, draw_parts(12))
    for image in (draw_part(700), draw_part(701, defect=True)):
        alone, told, found = bars.score_image(image), kinds.score_image(image, category="bar"), kinds.score_image(image)
        assert alone.score == told.score == found.score
        assert (told.category, told.nearest_item) == ("bar", f"bar-{alone.nearest_item}")


@pytest.mark.parametrize("options", ENGINES.values(), ids=ENGINES)
def test_the_lowest_score_wins(options):
    detector = enroll_kinds(train_parts(options, count=4), count=4)
    for image in (draw_part(800), draw_ring(800), draw_ring(801, defect=True)):
        scores = {category: detector.assign(image, category=category)[1] for category in ("bar", "ring")}
        best = min(scores, key=lambda category: scores[category])
        assert detector.assign(image) == (best, scores[best])
        assert detector.score_image(image).score == scores[best]


def test_of_equal_scores_the_first_category_by_name_wins(kinds):
    (bar, ring) = kinds.normals.segments
    twins = [replace_category(bar, name) for name in ("b", "a")]
    detector = replace(kinds, normals=Snapshot(1, (*twins, ring)))
    assert detector.assign(draw_part(3))[0] == "a"


def replace_category(segment, category):
    twin = copy.copy(segment)
    twin.category = category
    return twin


def test_a_category_that_is_given_is_the_one_whatever_is_nearer(kinds):
    ring = draw_ring(900)
    verdict = kinds.score_image(ring, category="bar")
    assert (verdict.category, verdict.nearest_item[:4]) == ("bar", "bar-")
    assert verdict.score > kinds.score_image(ring).score


def test_an_unknown_category_is_refused_and_an_empty_bank_first(kinds):
    with pytest.raises(NotFound, match="category 'nut' does not exist"):
        kinds.score_image(draw_part(1), category="nut")
    with pytest.raises(FailedPrecondition, match="enroll some first"):
        Detector(kinds.model, Snapshot(0), None, CPU).score_image(draw_part(1), category="nut")


def test_verdict_and_p_value_are_those_of_the_category(kinds):
    bar, ring = draw_part(910), draw_ring(910)
    low, high = kinds.measure(bar), kinds.measure(ring)
    strict = replace(
        kinds, standards={"bar": make_standard(low / 2, [low / 2] * 9), "ring": make_standard(2 * high, [2 * high] * 4)}
    )
    verdicts = [strict.score_image(image) for image in (bar, ring)]
    assert [(v.is_anomalous, v.threshold, v.p_value) for v in verdicts] == [
        (True, low / 2, 0.1),
        (False, 2 * high, 1.0),
    ]


def test_a_category_that_was_enrolled_after_the_calibration_has_no_verdict(kinds):
    calibrated = replace(kinds, standards={"bar": make_standard(1e9, [1.0])})
    verdict = calibrated.score_image(draw_ring(1))
    assert (verdict.is_anomalous, verdict.threshold, verdict.p_value) == (None, None, None)
    assert calibrated.score_image(draw_part(1)).is_anomalous is False


def test_drift_is_looked_for_in_each_category_and_the_worst_is_told():
    scores = np.linspace(0.1, 1.0, 200)
    calibration = Calibration({name: Limit(1.0, 200) for name in ("bar", "ring")}, 0.01, 0.95, 1, "", "")
    watched = Watched(calibration, {name: make_standard(1.0, scores) for name in ("bar", "ring")})
    assert watched.find_worst() is None
    for score in np.random.default_rng(1).permutation(scores):
        watched.add("bar", float(score))
        watched.add("ring", 0.95)
    assert watched.add("nut", 0.5) is None
    category, drift = watched.find_worst()
    assert (category, drift.drifted, watched.drifts["bar"].drifted) == ("ring", True, False)
