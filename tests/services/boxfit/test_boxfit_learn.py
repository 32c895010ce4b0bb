"""What people's boxes teach: known distortions are found, noise teaches nothing."""

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from services.boxfit.calibration import Calibration, Confidence, learn_confidence
from services.boxfit.fit import Box
from services.boxfit.foreground import Foreground, ForegroundUse, refine_box, segment_foreground
from services.boxfit.growth import Growth, grow_box, measure_iou
from services.boxfit.learn import THRESHOLDS, WAYS, Lesson, Sample, learn_lessons
from services.boxfit.teach import Evidence, Judged
from services.runtime.errors import InvalidArgument

SIZE = (400, 300)


def make_sample(random, label="nut", best=0.3, spill=(0, 0, 0, 0), noise=1.0):
    """A wanted box, and what each threshold finds of it: ever less of it beyond `best`, ever more before.

    The ground is not plain, so the foreground is no help unless it is taken always, and then it is wrong.
    """
    x, y = random.integers(90, 150), random.integers(80, 110)
    w, h = random.integers(60, 120), random.integers(50, 90)

    def draw(margin):
        jitter = random.normal(0, noise, 4)
        left, top, right, bottom = np.array([x - margin, y - margin, x + w + margin, y + h + margin]) + jitter
        return Box(*(round(edge) for edge in (left, top, max(right, left + 2), max(bottom, top + 2))))

    found = [draw(80 * (best - threshold)) for threshold in THRESHOLDS]
    left, top, right, bottom = spill
    wanted = Box(round(x - left * w), round(y - top * h), round(x + w + right * w), round(y + h + bottom * h))
    return Sample(label, wanted, (*found, *found, draw(60)), SIZE)


def draw_samples(count, seed=0, **options):
    random = np.random.default_rng(seed)
    return [make_sample(random, **options) for _ in range(count)]


def test_where_the_default_is_right_five_boxes_change_nothing():
    for seed in range(10):
        common, nut = learn_lessons(draw_samples(5, seed, noise=4))
        assert nut.threshold == pytest.approx(0.3, abs=0.051)
        assert abs(nut.growth.left) < 0.1
        assert common.label == ""


@pytest.mark.parametrize("best", [0.1, 0.5])
def test_another_threshold_is_found_or_made_up_for_by_growth(best):
    _, nut = learn_lessons(draw_samples(8, best=best))
    assert nut.mean_iou > nut.default_mean_iou + 0.1
    assert nut.threshold == pytest.approx(best, abs=0.11)


def test_growth_of_one_side_is_found():
    _, nut = learn_lessons(draw_samples(20, spill=(0, 0, 0.5, 0), noise=2))
    assert nut.growth.right > 0.3
    assert abs(nut.growth.left) < 0.1
    assert nut.mean_iou > 0.85 > nut.default_mean_iou


def test_one_box_teaches_nothing():
    common, nut = learn_lessons(draw_samples(1, best=0.6))
    assert (nut.threshold, nut.growth, nut.box_count) == (0.3, Growth(), 1)
    assert common.threshold == 0.3


def test_the_foreground_is_taken_where_it_is_better():
    samples = [
        Sample(sample.label, sample.wanted, (*sample.found[:-1], sample.wanted), sample.size)
        for sample in draw_samples(6, noise=12)
    ]
    assert learn_lessons(samples)[1].foreground is ForegroundUse.ALWAYS


def test_the_foreground_is_left_where_the_map_alone_is_better():
    plain = draw_samples(6, noise=2)
    wide = draw_samples(6, 1, noise=2, best=1.0)
    samples = [
        Sample(one.label, one.wanted, (*other.found[:13], *one.found[13:]), one.size)
        for one, other in zip(plain, wide, strict=True)
    ]
    assert learn_lessons(samples)[1].foreground is ForegroundUse.NEVER


def test_a_label_with_few_boxes_takes_over_what_all_taught():
    many = draw_samples(20, spill=(0.2, 0.2, 0.2, 0.2))
    common, _, rare = learn_lessons([*many, *draw_samples(1, 7, label="rare", spill=(0.2, 0.2, 0.2, 0.2))])
    assert rare.growth == common.growth != Growth()


def test_labels_learn_apart():
    lessons = {
        lesson.label: lesson
        for lesson in learn_lessons(draw_samples(12, best=0.1) + draw_samples(12, 1, label="bolt", best=0.5))
    }
    assert lessons["nut"].threshold < 0.25
    assert lessons["bolt"].threshold > 0.35


def test_nothing_comes_of_nothing():
    assert learn_lessons([]) == ()
    assert len(draw_samples(1)[0].found) == len(WAYS)


def test_a_box_grows_by_its_own_sides_and_stays_in_the_image():
    assert grow_box(Box(100, 100, 200, 150), Growth(0.1, 0.2, 0.3, -0.4), SIZE) == Box(90, 90, 230, 130)
    assert grow_box(Box(0, 0, 400, 300), Growth(2, 2, 2, 2), SIZE) == Box(0, 0, 400, 300)
    assert grow_box(Box(5, 5, 6, 6), Growth(-0.45, -0.45, -0.45, -0.45), SIZE).area >= 1


def test_iou_of_boxes():
    assert measure_iou(Box(0, 0, 10, 10), Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert measure_iou(Box(0, 0, 10, 10), Box(10, 0, 20, 10)) == 0


def test_confidence_is_the_raw_score_until_something_is_learned():
    assert learn_confidence([]) == Confidence()
    assert [Confidence().rate(raw) for raw in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]


def test_confidence_becomes_the_share_that_people_accept():
    random = np.random.default_rng(0)
    raws = random.uniform(0.05, 0.95, 2000)
    chances = 1 / (1 + np.exp(-(-1 + 2 * np.log(raws / (1 - raws)))))
    learned = learn_confidence(list(zip(raws.tolist(), (random.random(2000) < chances).tolist(), strict=True)))
    assert learned.offset == pytest.approx(-1, abs=0.25)
    assert learned.slope == pytest.approx(2, abs=0.3)
    assert learned.rate(0.5) == pytest.approx(0.27, abs=0.05)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_handful_of_one_kind_moves_confidence_and_does_not_run_away(accepted):
    learned = learn_confidence([(0.6, accepted)] * 5)
    assert (learned.rate(0.6) > 0.6) == accepted
    assert 0.02 < learned.rate(0.6) < 0.98


@pytest.mark.parametrize("count", [30, 120, 500])
@pytest.mark.parametrize("surest", [0.97, 0.999, 1.0])
def test_a_classifier_that_is_always_sure_is_not_believed_where_people_refuse(surest, count):
    random = np.random.default_rng(0)
    raws = np.clip(surest - abs(random.normal(0, 0.05, count)), 0, 1)
    judged = [(raw, number % 5 == 0) for number, raw in enumerate(raws.tolist())]
    learned = learn_confidence(judged)
    rated = [learned.rate(raw) for raw, _ in judged]
    assert np.mean(rated) == pytest.approx(0.2, abs=0.03)


def test_confidence_grows_with_the_raw_score_even_if_people_disagree():
    learned = learn_confidence([(0.9, False), (0.1, True)] * 30)
    assert learned.rate(0.9) >= learned.rate(0.1)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Calibration((Lesson("a"), Lesson("a"))),
        lambda: Calibration((Lesson("a", threshold=float("nan")),)),
        lambda: Calibration((Lesson("a", growth=Growth(left=float("inf"))),)),
        lambda: Calibration(tuple(Lesson(str(number)) for number in range(1001))),
        lambda: Confidence(float("nan")),
        lambda: Confidence(0, 11),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(broken):
    with pytest.raises(InvalidArgument) as refused:
        broken()
    assert refused.value.field.startswith("calibration.")


def draw_part(noise=8):
    image = np.full((90, 120, 3), (200, 190, 180), np.uint8)
    image += np.random.default_rng(0).integers(0, noise, image.shape, dtype=np.uint8)
    image[20:60, 30:90] = (40, 90, 160)
    return image


def test_what_stands_out_from_the_rim_is_the_foreground():
    foreground = segment_foreground(draw_part())
    ones = foreground.mask
    assert foreground.is_plain
    assert ones.shape == (90, 120)
    assert ones[22:58, 32:88].all()
    assert not ones[:18].any()
    found = refine_box(foreground, Box(50, 30, 70, 50), (120, 90), ForegroundUse.ALWAYS)
    assert measure_iou(found, Box(30, 20, 90, 60)) > 0.95


def test_a_ground_of_many_colours_or_of_nothing_else_is_not_plain():
    random = np.random.default_rng(0)
    blobs = cv2.GaussianBlur(random.integers(0, 256, (90, 120, 3)).astype(np.float32), (0, 0), 6)
    strewn = ((blobs - blobs.min()) / np.ptp(blobs) * 255).astype(np.uint8)
    assert not segment_foreground(strewn).is_plain
    assert not segment_foreground(np.full((90, 120, 3), 200, np.uint8)).is_plain
    cut = draw_part()
    cut[20:80, :90] = (40, 90, 160)  # a fifth of the rim is the part's
    assert not segment_foreground(cut).is_plain


def test_on_a_plain_ground_a_box_ends_where_the_part_does_unless_it_would_grow_much():
    foreground = segment_foreground(draw_part())

    def refine(box, use):
        return refine_box(foreground, box, (120, 90), use)

    around, on_it = Box(20, 10, 100, 70), Box(50, 30, 70, 50)
    assert measure_iou(refine(around, ForegroundUse.PLAIN_GROUND), Box(30, 20, 90, 60)) > 0.95
    assert refine(around, ForegroundUse.NEVER) == around
    assert refine(on_it, ForegroundUse.PLAIN_GROUND) == on_it  # a defect of the part, perhaps
    busy = Foreground(foreground.mask, is_plain=False)
    assert refine_box(busy, around, (120, 90), ForegroundUse.PLAIN_GROUND) == around


def test_the_foreground_of_a_large_image_is_told_in_its_pixels():
    image = np.zeros((600, 900), np.uint16)
    image[200:400, 300:600] = 50000
    found = refine_box(segment_foreground(image), Box(280, 180, 620, 420), (900, 600), ForegroundUse.PLAIN_GROUND)
    assert measure_iou(found, Box(300, 200, 600, 400)) > 0.9


def test_a_piece_elsewhere_is_not_taken_in_and_an_empty_foreground_leaves_the_box():
    ones = np.zeros((60, 80), dtype=np.bool_)
    ones[10:20, 10:20] = ones[40:50, 60:70] = True

    def refine(mask):
        return refine_box(Foreground(mask, is_plain=True), Box(8, 8, 18, 18), (80, 60), ForegroundUse.ALWAYS)

    assert refine(ones) == Box(10, 10, 20, 20)
    assert refine(np.zeros_like(ones)) == Box(8, 8, 18, 18)


def test_evidence_survives_its_checkpoint():
    judged = Judged("nut", 0.5, Box(1, 2, 3, 4), (Box(1, 2, 3, 4),), (), SIZE)
    evidence = Evidence("x", tuple(draw_samples(2)), (judged,), 3, (("a", "torn"),))
    assert json.loads(evidence.to_bytes())["after"] == "x"
    assert asdict(Evidence.from_bytes(evidence.to_bytes())) == asdict(evidence)
    assert Evidence.from_bytes(evidence.to_bytes()) == evidence
    assert Evidence.from_bytes(None) == Evidence()
