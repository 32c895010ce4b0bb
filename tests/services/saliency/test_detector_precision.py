"""Average precision, against values worked out by hand."""

import numpy as np
import pytest

from services.saliency.detection.average_precision import Found, Truth, compute_ious, measure_precision

BOX = (0, 0, 10, 10)


def truth(*boxes, classes=None):
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Truth(array, np.array(classes or [0] * len(boxes), np.int64))


def found(*boxes, scores, classes=None):
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Found(array, np.array(classes or [0] * len(boxes), np.int64), np.array(scores, np.float32))


NOTHING = found(scores=[])


def test_what_is_found_to_the_pixel_is_perfect():
    precision = measure_precision([truth(BOX)], [found(BOX, scores=[0.9])])
    assert (precision.mean, precision.mean_50) == (1.0, 1.0)


def test_what_is_not_found_counts_nothing():
    assert measure_precision([truth(BOX)], [NOTHING]).mean_50 == 0
    assert measure_precision([truth()], [found(BOX, scores=[0.9])]).mean_50 == 0


def test_a_box_of_iou_72_counts_at_five_of_ten_thresholds():
    # 10 x 10 against 10 x 7.2: IoU .72 passes .50, .55, .60, .65 and .70.
    precision = measure_precision([truth(BOX)], [found((0, 0, 10, 7.2), scores=[0.9])])
    assert precision.mean == pytest.approx(0.5)
    assert precision.mean_50 == 1


def test_an_iou_that_is_the_threshold_reaches_it():
    assert measure_precision([truth(BOX)], [found((0, 0, 10, 5), scores=[0.9])]).mean_50 == 1


def test_a_false_box_that_is_surer_halves_the_precision():
    wrong = (50, 50, 60, 60)
    answer = found(wrong, BOX, scores=[0.9, 0.8])
    assert measure_precision([truth(BOX)], [answer]).mean_50 == pytest.approx(0.5)


def test_a_false_box_that_is_less_sure_costs_nothing():
    answer = found(BOX, (50, 50, 60, 60), scores=[0.9, 0.8])
    assert measure_precision([truth(BOX)], [answer]).mean_50 == 1


def test_finding_one_thing_twice_is_a_mistake():
    # Two things, one found twice before the other: hits 1, 0, 1. Precision 1 up to recall .5 (51 of 101 recalls),
    # then 2/3 (50 of them).
    things = truth(BOX, (20, 20, 30, 30))
    answer = found(BOX, BOX, (20, 20, 30, 30), scores=[0.9, 0.8, 0.7])
    assert measure_precision([things], [answer]).mean_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_half_of_the_things_found_is_half_of_the_precision():
    things = truth(BOX, (20, 20, 30, 30))
    assert measure_precision([things], [found(BOX, scores=[0.9])]).mean_50 == pytest.approx(51 / 101)


def test_scores_are_ranked_over_all_images():
    # A false box in the second image is surer than the true one in the first: precision 1/2 at all recalls.
    precision = measure_precision([truth(BOX), truth()], [found(BOX, scores=[0.5]), found((5, 5, 9, 9), scores=[0.6])])
    assert precision.mean_50 == pytest.approx(0.5)


def test_a_box_of_another_label_or_image_is_no_hit():
    assert measure_precision([truth(BOX, classes=[1])], [found(BOX, scores=[0.9], classes=[0])]).mean_50 == 0
    assert measure_precision([truth(BOX), truth()], [NOTHING, found(BOX, scores=[0.9])]).mean_50 == 0


def test_labels_count_alike_and_those_without_a_true_box_not_at_all():
    things = truth(BOX, BOX, BOX, (20, 20, 30, 30), classes=[0, 0, 0, 1])
    answer = found((20, 20, 30, 30), (40, 40, 50, 50), scores=[0.9, 0.9], classes=[1, 2])
    precision = measure_precision([things], [answer])
    assert precision.mean_50 == pytest.approx(0.5)
    assert precision.by_class == {0: 0.0, 1: 1.0}


def test_each_detection_takes_the_free_box_that_it_fits_best():
    near, far = (0, 0, 10, 10), (0, 0, 10, 8)
    answer = found(far, near, scores=[0.9, 0.8])
    precision = measure_precision([truth(near, far)], [answer])
    assert precision.mean == 1


def test_ious_are_those_of_areas():
    first = np.array([[0, 0, 2, 2], [0, 0, 1, 1]], np.float32)
    second = np.array([[1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 2]], np.float32)
    assert compute_ious(first, second) == pytest.approx(np.array([[1 / 7, 0, 1], [0, 0, 0.25]]))
    assert compute_ious(first[:0], second).shape == (0, 3)


def test_the_figures_are_those_of_pycocotools():
    pytest.importorskip("pycocotools", reason="no independent count of average precision: pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    truths, answers = zip(*(draw_answers(rng) for _ in range(30)), strict=True)
    images = [{"id": number + 1} for number in range(30)]
    annotations, detections = [], []
    for number, (there, here) in enumerate(zip(truths, answers, strict=True), 1):
        for box, one in zip(there.boxes.tolist(), there.classes.tolist(), strict=True):
            wide = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": one, "bbox": wide, "iscrowd": 0}
            annotations.append(entry | {"area": wide[2] * wide[3]})
        for box, one, score in zip(here.boxes.tolist(), here.classes.tolist(), here.scores.tolist(), strict=True):
            wide = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            detections.append({"image_id": number, "category_id": one, "bbox": wide, "score": score})
    coco = COCO()
    coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 0}, {"id": 1}]}
    coco.createIndex()
    peer = COCOeval(coco, coco.loadRes(detections), "bbox")
    peer.evaluate()
    peer.accumulate()
    peer.summarize()
    ours = measure_precision(truths, answers)
    assert (ours.mean, ours.mean_50) == (pytest.approx(peer.stats[0]), pytest.approx(peer.stats[1]))


def draw_answers(rng):
    """Boxes of two labels, and detections near some of them."""
    count = int(rng.integers(1, 6))
    corners = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 60, (count, 2))], 1).astype(np.float32)
    classes = rng.integers(0, 2, count)
    near = boxes[rng.integers(0, count, 8)] + rng.normal(0, 4, (8, 4)).astype(np.float32)
    labels = rng.integers(0, 2, 8)
    return Truth(boxes, classes), Found(near, labels, rng.uniform(0.1, 1, 8).astype(np.float32))
