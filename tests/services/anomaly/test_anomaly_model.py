from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from anomaly_parts import (
    CPU,
    PART_MASK,
    QUICK,
    SILENT,
    draw_part,
    draw_parts,
    enroll_parts,
    make_standard,
    open_bank,
    train_parts,
)

from services.anomaly.curves import compute_auroc
from services.anomaly.frames import Framing, Placement
from services.anomaly.model import Detector, choose_device
from services.anomaly.training import MetricOptions, PatchOptions, Plan, load_model, save_model, train_model
from services.runtime.errors import DataLoss, FailedPrecondition, InvalidArgument

GOOD = [draw_part(1000 + number) for number in range(10)]
BAD = [draw_part(2000 + number, defect=True) for number in range(10)]


@pytest.fixture(params=["raw", "prepared"])
def detector(request):
    return request.getfixturevalue(f"{request.param}_detector")


def test_a_drawn_defect_is_told_from_normal_parts(detector):
    scores = np.array([detector.measure(image) for image in GOOD + BAD])
    assert compute_auroc(scores, np.arange(20) >= 10) > 0.95


def test_the_heat_is_where_the_defect_is(detector):
    heat = detector.score_image(BAD[0], heatmap_side=96).heatmap
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (abs(x - 60) <= 12, abs(y - 30) <= 12) == (True, True)


def test_an_enrolled_image_is_its_own_nearest_and_at_distance_zero(prepared_detector):
    verdict = prepared_detector.score_image(draw_part(5))
    assert (verdict.score, verdict.nearest_item) == (0, "5")
    assert prepared_detector.measure(draw_part(5), frozenset({"5"})) > 0


def test_the_verdict_is_left_open_until_there_is_a_threshold(detector):
    verdict = detector.score_image(BAD[0])
    assert (verdict.is_anomalous, verdict.threshold, verdict.region, verdict.heatmap) == (None, None, None, None)


def test_a_score_at_the_threshold_is_normal_and_above_it_anomalous_with_its_region(detector):
    score = detector.measure(BAD[0])
    at = replace(detector, standards={"": make_standard(score)}).score_image(BAD[0])
    assert (at.is_anomalous, at.threshold, at.region) == (False, score, None)
    above = replace(detector, standards={"": make_standard(score * 0.99)}).score_image(BAD[0])
    assert above.is_anomalous
    region = above.region
    assert (region.x0 <= 66, region.x1 >= 54, region.y0 <= 36, region.y1 >= 24) == (True, True, True, True)


def test_heat_and_region_of_a_prepared_frame_come_back_in_the_image_as_sent(prepared_detector):
    # The image as sent is twice as large and shifted: frame = image / 2 - (10, 4).
    placement = Placement(np.array([[0.5, 0, -10], [0, 0.5, -4]]), (240, 260))
    judge = replace(prepared_detector, standards={"": make_standard(0)})
    verdict = judge.score_image(BAD[0], placement, heatmap_side=260)
    assert verdict.heatmap.shape == (240, 260)
    y, x = np.unravel_index(verdict.heatmap.argmax(), verdict.heatmap.shape)
    assert (abs(x - 140) <= 24, abs(y - 68) <= 24) == (True, True)
    assert (verdict.region.x0 <= x < verdict.region.x1, verdict.region.y0 <= y < verdict.region.y1) == (True, True)


def test_a_score_is_the_same_to_the_bit_alone_in_company_and_after_a_restart(detector):
    alone = [detector.score_image(image, heatmap_side=64) for image in BAD]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: detector.score_image(image, heatmap_side=64), BAD[::-1]))[::-1]
    restarted = replace(detector, model=load_model(save_model(detector.model), CPU))
    again = [restarted.score_image(image, heatmap_side=64) for image in BAD]
    for one, other, third in zip(alone, together, again, strict=True):
        assert one.score == other.score == third.score
        assert (one.heatmap == other.heatmap).all()
        assert (one.heatmap == third.heatmap).all()


def test_what_an_item_contributes_depends_on_nothing_but_the_item(detector):
    lonely = Detector(detector.model, open_bank(detector.model.engine.layout).snapshot, None, CPU)
    mine, theirs = lonely.contribute_item(GOOD[0]), detector.contribute_item(GOOD[0])
    assert (mine.vectors == theirs.vectors).all()
    assert (mine.cells == theirs.cells).all()


def test_an_item_keeps_all_its_vectors_where_position_counts_else_its_share(prepared_detector):
    cells = 192 // 8 * 192 // 8
    sparing = enroll_parts(train_parts(PatchOptions(192, coreset_fraction=0.5)), [])
    assert len(sparing.contribute_item(GOOD[0]).vectors) == cells // 2
    assert prepared_detector.model.engine.layout.arrangement == "cells"
    rows, columns = prepared_detector.model.engine.layout.grid
    assert len(prepared_detector.contribute_item(GOOD[0]).vectors) == rows * columns


def test_outside_the_mask_nothing_counts(prepared_detector):
    spoilt = draw_part(5)
    spoilt[~PART_MASK] = np.random.default_rng(0).integers(0, 256, int((~PART_MASK).sum()))
    assert prepared_detector.measure(spoilt) == 0


def test_a_detector_with_an_empty_bank_refuses(raw_model):
    empty = Detector(raw_model, open_bank(raw_model.engine.layout).snapshot, None, CPU)
    with pytest.raises(FailedPrecondition) as refusal:
        empty.score_image(GOOD[0])
    assert refusal.value.reason == "BANK_EMPTY"


def test_a_prepared_detector_refuses_another_frame(prepared_detector):
    with pytest.raises(InvalidArgument, match="96"):
        prepared_detector.score_image(GOOD[0][:90])


def test_raw_images_may_have_any_size(raw_detector):
    assert raw_detector.measure(np.kron(GOOD[0], np.ones((2, 2), np.uint8))) < raw_detector.measure(BAD[0])
    assert raw_detector.score_image(np.zeros((40, 300), np.uint8), heatmap_side=30).heatmap.shape == (4, 30)


def test_a_model_that_is_damaged_is_refused(raw_model):
    with pytest.raises(DataLoss):
        load_model(save_model(raw_model)[:-100], CPU)


@pytest.mark.parametrize(
    "options", [QUICK, MetricOptions("original", "arcface", 2, 1, 64), MetricOptions("patches", "arcface", 2, 1, 64)]
)
def test_a_stored_model_keeps_plan_mask_and_weights(options):
    model = train_parts(options, prepared=True)
    read = load_model(save_model(model), CPU)
    assert read.plan == model.plan
    assert (read.framing.mask == PART_MASK).all()
    assert all(torch.equal(read.tensors[name], value) for name, value in model.tensors.items())


def test_the_same_seed_trains_the_same_model(raw_model):
    assert all(torch.equal(raw_model.tensors[name], value) for name, value in train_parts().tensors.items())


def test_a_pretrained_patch_detector_needs_no_training_and_reads_no_image():
    def refuse():
        raise AssertionError("read")
        yield

    model = train_model(Plan(QUICK, "mobilenetv2_100"), refuse(), Framing(), None, CPU, SILENT)
    assert model.engine.layout.dimension == 128


def test_no_images_to_learn_from_are_refused():
    with pytest.raises(InvalidArgument, match="at least 1"):
        train_model(Plan(QUICK, "small"), [], Framing(), None, CPU, SILENT)


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("cpu") == CPU
    with pytest.raises(InvalidArgument, match="abacus"):
        choose_device("abacus")


def test_enrolling_more_never_raises_a_patch_score(prepared_model):
    few, many = enroll_parts(prepared_model, draw_parts(4)), enroll_parts(prepared_model, draw_parts(12))
    for image in GOOD[:3] + BAD[:3]:
        assert many.measure(image) <= few.measure(image)


def test_images_that_show_the_part_at_the_same_place_are_compared_place_by_place():
    somewhere = enroll_parts(train_parts(), draw_parts(8))
    here = enroll_parts(train_parts(PatchOptions(192, same_place=True)), draw_parts(8))
    assert here.model.engine.layout.grid == (24, 24)
    moved = np.roll(draw_part(3), 32, axis=0)  # by whole cells
    assert here.measure(moved) > 3 * somewhere.measure(moved)
    assert here.measure(draw_part(900)) < 3 * somewhere.measure(draw_part(900))
    wide = np.hstack([draw_part(1), draw_part(2)])
    assert here.score_image(wide, heatmap_side=64).heatmap.shape == (32, 64)
