"""A real server on a free port; saliency and codec are played by servicers in memory."""

import asyncio
import dataclasses

import numpy as np
import psutil
import pytest
from boxfit_neighbours import CLASSIFIER, DATASET, PROBABILITY, SEGMENTER, draw, touch

import mekiki
from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.boxfit.model import fit_box

HALF = mekiki.FitOptions(threshold=0.5)
PLAIN = mekiki.ExplainOptions()


def learned(name=CLASSIFIER, version=3, threshold=0.5, **lesson):
    """A calibration for nuts alone."""
    label = mekiki.LabelCalibration("nut", threshold, **lesson)
    model = mekiki.ModelRef(name, version)
    return mekiki.BoxCalibration(model, PLAIN, mekiki.FitMethod.EXACT, (label,))


def ragged(seed=0):
    return np.random.default_rng(seed).random((30, 40)) < 0.4


async def test_a_binary_map_gets_the_models_own_box(client):
    ones = ragged()
    answer, expected = await client.boxfit.fit_box(ones), fit_box(ones)
    assert answer.box == mekiki.Box(expected.box.x_min, expected.box.y_min, expected.box.x_max, expected.box.y_max)
    assert (answer.iou, answer.optimal, answer.evaluations) == (expected.iou, True, expected.evaluations)


async def test_a_soft_map_is_cut_at_the_threshold_asked_for(client):
    heat = np.zeros((10, 10), np.float32)
    heat[2:8, 2:8], heat[4:6, 4:6] = 0.4, 1.0
    assert (await client.boxfit.fit_box(heat)).box == mekiki.Box(2, 2, 8, 8)
    assert (await client.boxfit.fit_box(heat, options=HALF)).box == mekiki.Box(4, 4, 6, 6)


@pytest.mark.parametrize("method", list(mekiki.FitMethod))
async def test_every_method_is_served(client, method):
    ones = draw(10, 5, 30, 25) > 0
    answer = await client.boxfit.fit_box(ones, options=mekiki.FitOptions(method, max_iterations=1, seed=2))
    assert answer.optimal == (method in ("exact", "soft"))
    assert 0 < answer.iou <= 1


@pytest.mark.parametrize(
    ("map_", "options", "field"),
    [
        (np.zeros((4, 5), dtype=np.bool_), mekiki.FitOptions(), "map"),
        (np.zeros((4, 5), dtype=np.float32), mekiki.FitOptions(), "map"),
        (np.ones((101, 100), dtype=np.bool_), mekiki.FitOptions(), "mask.png"),
        (np.ones((101, 100), dtype=np.float32), mekiki.FitOptions(), "heatmap"),
        (np.full((4, 5), np.nan, dtype=np.float32), mekiki.FitOptions(), "heatmap.values"),
        (np.ones((4, 5), dtype=np.bool_), mekiki.FitOptions(threshold=1.5), "options.threshold"),
        (np.ones((4, 5), dtype=np.bool_), mekiki.FitOptions(max_iterations=201), "options.max_iterations"),
    ],
)
async def test_bad_input_is_refused_by_its_field(client, map_, options, field):
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        await client.boxfit.fit_box(map_, options=options)
    assert refused.value.field == field


async def test_a_request_without_a_map_or_with_an_unknown_method_is_refused(address):
    import grpc

    async with grpc.aio.insecure_channel(address) as channel:
        stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
        mask = types_pb2.Mask(png=b"no picture")
        strange = boxfit_pb2.FitOptions(method=9)
        for request, words in [
            (boxfit_pb2.FitBoxRequest(), "map: one of mask or heatmap must be set"),
            (boxfit_pb2.FitBoxRequest(mask=mask), "mask.png: must be one of PNG"),
            (boxfit_pb2.FitBoxRequest(mask=mask, options=strange), "options.method: 9 is no FitMethod"),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.FitBox(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details().startswith(words)


async def test_a_binary_map_may_come_as_run_lengths(address):
    import grpc

    from services.runtime.images import encode_mask, encode_runs

    async with grpc.aio.insecure_channel(address) as channel:
        stub = boxfit_pb2_grpc.BoxfitServiceStub(channel)
        told = [
            await stub.FitBox(boxfit_pb2.FitBoxRequest(mask=encode(ragged()))) for encode in (encode_mask, encode_runs)
        ]
        assert told[0] == told[1]
        torn = types_pb2.Mask(rle=types_pb2.CocoRle(width=5, height=4, counts=[7]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.FitBox(boxfit_pb2.FitBoxRequest(mask=torn))
        assert refused.value.details().startswith("mask.rle.counts: must add up to 20")


async def test_a_bad_map_in_a_stream_answers_its_own_error_and_the_stream_goes_on(client):
    maps = [ragged(1), np.zeros((3, 3), dtype=np.bool_), ragged(2)]
    answers = [answer async for answer in client.boxfit.fit_boxes(maps)]
    assert [answer.id for answer in answers] == ["0", "1", "2"]
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert [answers[0].value.iou, answers[2].value.iou] == [fit_box(ragged(1)).iou, fit_box(ragged(2)).iou]
    assert answers[1].error.field == "map"


async def test_many_callers_at_once_each_get_their_own_box(client):
    answers = await asyncio.gather(*(client.boxfit.fit_box(ragged(seed)) for seed in range(40)))
    assert [answer.iou for answer in answers] == [fit_box(ragged(seed)).iou for seed in range(40)]


async def test_an_image_is_annotated_in_its_own_pixels(client):
    answer = await client.boxfit.annotate_image(CLASSIFIER, draw(12, 8, 44, 32), options=HALF)
    (annotation,) = answer.annotations
    assert annotation.box == mekiki.Box(12, 8, 44, 32)
    assert annotation.label == "nut"
    assert annotation.source == "boxfit/exact saliency/kinds@3"
    assert annotation.state is mekiki.AnnotationState.PROPOSED
    assert (
        0.75 * PROBABILITY < annotation.score <= PROBABILITY
    )  # other thresholds find the box a cell larger or smaller
    assert not annotation.needs_review
    assert answer.model == mekiki.ModelRef(CLASSIFIER, 3)
    assert (answer.image_width, answer.image_height) == (64, 48)


async def test_an_annotation_names_the_method_that_made_it(client):
    options = mekiki.FitOptions(mekiki.FitMethod.TIGHT)
    answer = await client.boxfit.annotate_image(CLASSIFIER, draw(12, 8, 44, 32), options=options)
    assert answer.annotations[0].source == "boxfit/tight saliency/kinds@3"


async def test_a_low_score_is_marked_for_a_person(client):
    image = draw(12, 8, 44, 32)
    sure = await client.boxfit.annotate_image(CLASSIFIER, image, review_below=0.5)
    unsure = await client.boxfit.annotate_image(CLASSIFIER, image, review_below=0.95)
    assert [answer.annotations[0].needs_review for answer in (sure, unsure)] == [False, True]


async def test_an_image_in_which_nothing_speaks_for_the_label_gets_no_box(client):
    answer = await client.boxfit.annotate_image(CLASSIFIER, draw(0, 0, 0, 0), label="bolt")
    assert answer.annotations == ()
    assert answer.model.name == CLASSIFIER


async def test_the_neighbours_errors_are_passed_on(client):
    with pytest.raises(mekiki.errors.NotFound, match="classifier 'other' does not exist"):
        await client.boxfit.annotate_image("other", draw(4, 4, 8, 8))
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        await client.boxfit.annotate_image(CLASSIFIER, draw(4, 4, 8, 8), label="cat")
    assert refused.value.field == "label"
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        await client.boxfit.annotate_image(CLASSIFIER, b"no picture")
    assert refused.value.field == "image.encoded"


async def test_bad_wishes_for_an_annotation_are_refused_by_their_field(client):
    image = draw(4, 4, 8, 8)
    for call, field in [
        (client.boxfit.annotate_image("", image), "classifier"),
        (client.boxfit.annotate_image(CLASSIFIER, image, review_below=1.5), "review_below"),
        (client.boxfit.annotate_dataset("", DATASET), "classifier"),
        (client.boxfit.annotate_dataset(CLASSIFIER, ""), "items.dataset"),
        (client.boxfit.annotate_dataset(CLASSIFIER, DATASET, review_below=-1), "review_below"),
        (client.boxfit.annotate_dataset(CLASSIFIER, DATASET, segmenter=SEGMENTER), "classifier"),
        (client.boxfit.annotate_dataset("", DATASET, segmenter=SEGMENTER, explain=PLAIN), "explain"),
        (client.boxfit.annotate_dataset("", DATASET, segmenter=SEGMENTER, calibration=learned()), "calibration"),
        (client.boxfit.annotate_image(CLASSIFIER, image, calibration=learned(), explain=PLAIN), "explain"),
        (
            client.boxfit.annotate_image(CLASSIFIER, image, calibration=learned(threshold=1)),
            "calibration.labels.threshold",
        ),
        (
            client.boxfit.annotate_image(CLASSIFIER, image, calibration=learned(grow_top=3)),
            "calibration.labels.grow_top",
        ),
        (client.boxfit.annotate_image(CLASSIFIER, image, calibration=learned("other")), "calibration.model.name"),
        (client.boxfit.calibrate_boxes("", DATASET), "classifier"),
        (client.boxfit.calibrate_boxes(CLASSIFIER, ""), "items.dataset"),
        (client.boxfit.calibrate_boxes(CLASSIFIER, DATASET, method=mekiki.FitMethod.BAYESIAN), "method"),
    ]:
        with pytest.raises(mekiki.errors.InvalidArgument) as refused:
            await call
        assert refused.value.field == field


async def test_a_bad_image_in_a_stream_answers_its_own_error_and_the_stream_goes_on(client):
    images = [draw(12, 8, 44, 32), b"no picture", draw(0, 8, 20, 32)]
    answers = [answer async for answer in client.boxfit.annotate_images(CLASSIFIER, images, options=HALF)]
    assert [answer.error is None for answer in answers] == [True, False, True]
    boxes = [answers[number].value.annotations[0].box for number in (0, 2)]
    assert boxes == [mekiki.Box(12, 8, 44, 32), mekiki.Box(0, 8, 20, 32)]


async def test_a_data_set_is_annotated_by_a_worker(client, codec):
    codec.add("a", draw(12, 8, 44, 32), "bolt")
    codec.add("b", draw(4, 4, 24, 24), "nut")
    operation = await client.boxfit.annotate_dataset(CLASSIFIER, DATASET, use_item_labels=True, options=HALF)
    result = await operation.result(timeout_s=90)
    assert (result.annotated_count, result.skipped_count, result.failures) == (2, 0, {})
    boxes = {key: (item.annotations[0].box.x_min, item.annotations[0].label) for key, item in codec.items.items()}
    assert boxes == {"a": (12, "bolt"), "b": (4, "nut")}


async def test_a_data_set_is_annotated_by_a_worker_and_a_segmenter(client, codec):
    codec.add("a", draw(12, 8, 44, 32), "nut")
    operation = await client.boxfit.annotate_dataset("", DATASET, segmenter=SEGMENTER)
    assert (await operation.result(timeout_s=90)).annotated_count == 1
    assert codec.items["a"].annotations[0].source == f"boxfit/exact saliency/{SEGMENTER}@3"


async def test_a_data_set_is_not_begun_with_an_unknown_model(client):
    for names in ({"classifier": "other"}, {"classifier": "", "segmenter": "other"}):
        with pytest.raises(mekiki.errors.NotFound):
            await client.boxfit.annotate_dataset(items=DATASET, **names)


async def test_several_objects_of_a_map_are_told_best_first(client):
    ones = np.zeros((30, 60), dtype=np.bool_)
    ones[5:15, 5:15] = ones[10:28, 30:55] = True
    answer = await client.boxfit.fit_box(ones, options=mekiki.FitOptions(max_objects=5))
    assert answer.box == mekiki.Box(30, 10, 55, 28)
    assert answer.others == ()  # the other has less than 0.4 of its area
    answer = await client.boxfit.fit_box(ones, options=mekiki.FitOptions(max_objects=5, least_share=0.1))
    assert [other.box for other in answer.others] == [mekiki.Box(5, 5, 15, 15)]
    one = await client.boxfit.fit_box(ones, options=mekiki.FitOptions(max_objects=1))
    assert one.others == ()


async def test_several_objects_in_an_image_each_get_a_box(client):
    image = np.maximum(draw(4, 8, 24, 32), draw(36, 12, 60, 40))
    options = mekiki.FitOptions(threshold=0.5, max_objects=4)
    answer = await client.boxfit.annotate_image(CLASSIFIER, image, options=options)
    assert {note.box for note in answer.annotations} == {mekiki.Box(4, 8, 24, 32), mekiki.Box(36, 12, 60, 40)}
    scores = [note.score for note in answer.annotations]
    assert scores == sorted(scores, reverse=True)


async def test_how_an_image_is_explained_can_be_said(client, saliency):
    saliency.wanted = (False, (1.0, 2.0))
    explain = mekiki.ExplainOptions(scales=(1.0, 2.0), flip=False)
    answer = await client.boxfit.annotate_image(CLASSIFIER, draw(12, 8, 44, 32), explain=explain)
    assert len(answer.annotations) == 1
    saliency.wanted = (True, ())
    assert len((await client.boxfit.annotate_image(CLASSIFIER, draw(12, 8, 44, 32))).annotations) == 1


async def test_a_calibration_grows_the_boxes_of_its_label_and_no_other(client):
    made = learned(grow_right=0.25, grow_top=-0.25)
    image = draw(12, 8, 44, 32)
    grown = await client.boxfit.annotate_image(CLASSIFIER, image, calibration=made)
    assert grown.annotations[0].box == mekiki.Box(12, 14, 52, 32)
    other = await client.boxfit.annotate_image(CLASSIFIER, image, label="bolt", calibration=made, options=HALF)
    assert other.annotations[0].box == mekiki.Box(12, 8, 44, 32)


async def test_a_calibrations_confidence_takes_the_place_of_the_raw_score(client):
    image = draw(12, 8, 44, 32)
    raw = (await client.boxfit.annotate_image(CLASSIFIER, image, options=HALF)).annotations[0].score
    made = dataclasses.replace(learned(), confidence_offset=-8.0)
    sure = (await client.boxfit.annotate_image(CLASSIFIER, image, calibration=made)).annotations[0]
    assert sure.score == pytest.approx(1 / (1 + np.exp(8) * (1 - raw) / raw))
    assert sure.needs_review


async def test_a_calibration_can_take_what_stands_out_from_the_rim(client):
    """The heat is coarse; the foreground is exact to a pixel."""
    image = draw(13, 9, 42, 31)
    made = learned(foreground=mekiki.ForegroundUse.ALWAYS)
    answer = await client.boxfit.annotate_image(CLASSIFIER, image, calibration=made)
    assert answer.annotations[0].box == mekiki.Box(13, 9, 42, 31)


async def test_on_a_plain_ground_a_box_ends_where_the_part_does_unless_that_is_not_wanted(client, codec):
    image = draw(13, 9, 42, 31)
    usual = await client.boxfit.annotate_image(CLASSIFIER, image)
    assert usual.annotations[0].box == mekiki.Box(13, 9, 42, 31)
    alone = await client.boxfit.annotate_image(CLASSIFIER, image, foreground=mekiki.ForegroundUse.NEVER)
    assert alone.annotations[0].box != usual.annotations[0].box
    codec.add("a", image, "nut")
    for use, wanted in ((mekiki.ForegroundUse.NEVER, alone), (None, usual)):
        await (await client.boxfit.annotate_dataset(CLASSIFIER, DATASET, foreground=use)).result(timeout_s=90)
        drawn = codec.items["a"].annotations
        assert [mekiki.Annotation.from_proto(each).box for each in drawn] == [wanted.annotations[0].box]


async def test_two_peaks_of_one_part_are_one_box(client):
    image = draw(8, 8, 48, 40)
    image[:, 24:32] = image[:, 24:32] // 2  # the map has a valley there, the part does not
    several = mekiki.FitOptions(max_objects=5)
    answer = await client.boxfit.annotate_image(CLASSIFIER, image, options=several)
    assert [each.box for each in answer.annotations] == [mekiki.Box(8, 8, 48, 40)]
    alone = await client.boxfit.annotate_image(
        CLASSIFIER, image, options=several, foreground=mekiki.ForegroundUse.NEVER
    )
    assert len(alone.annotations) == 2


async def test_what_is_made_of_the_foreground_is_said_once(client):
    use = mekiki.ForegroundUse.ALWAYS
    with pytest.raises(mekiki.errors.InvalidArgument, match="beside a calibration") as refused:
        await client.boxfit.annotate_image(CLASSIFIER, draw(12, 8, 44, 32), calibration=learned(), foreground=use)
    assert refused.value.field == "foreground"
    with pytest.raises(mekiki.errors.InvalidArgument, match="beside a segmenter") as refused:
        await client.boxfit.annotate_dataset("", DATASET, segmenter=SEGMENTER, foreground=use)
    assert refused.value.field == "foreground"


async def test_a_calibration_of_another_version_is_refused(client, codec):
    made = learned(version=2)
    with pytest.raises(mekiki.errors.FailedPrecondition) as refused:
        await client.boxfit.annotate_image(CLASSIFIER, draw(12, 8, 44, 32), calibration=made)
    assert refused.value.reason == "CALIBRATION_OUTDATED"
    codec.add("a", draw(12, 8, 44, 32), "nut")
    operation = await client.boxfit.annotate_dataset(CLASSIFIER, DATASET, calibration=made)
    with pytest.raises(mekiki.errors.FailedPrecondition):
        await operation.result(timeout_s=90)


async def test_boxes_are_calibrated_by_a_worker_and_annotate_better(client, codec):
    """People draw boxes half as wide again as what the classifier looks at."""
    for number in range(6):
        left = 4 * number
        wanted = types_pb2.Box(x_min=left, y_min=8, x_max=left + 36, y_max=32)
        state = types_pb2.ANNOTATION_STATE_ACCEPTED
        codec.add(
            f"{number}",
            draw(left, 8, left + 24, 32),
            annotations=[types_pb2.Annotation(label="nut", box=wanted, state=state)],
        )
    codec.add("untouched", draw(4, 4, 20, 20))
    operation = await client.boxfit.calibrate_boxes(CLASSIFIER, DATASET)
    taught = await operation.result(timeout_s=90)
    assert (taught.item_count, taught.failures) == (6, {})
    (lesson,) = [label for label in taught.calibration.labels if label.label == "nut"]
    assert lesson.box_count == 6
    assert lesson.mean_iou > lesson.default_mean_iou + 0.1
    assert lesson.grow_right > 0.1
    assert taught.calibration.judged_count == 6
    image = draw(20, 8, 44, 32)
    answer = await client.boxfit.annotate_image(CLASSIFIER, image, calibration=taught.calibration)
    assert answer.annotations[0].box.x_max > 48


async def test_where_nobody_has_accepted_a_box_nothing_is_learned(client, codec):
    codec.add("a", draw(12, 8, 44, 32))
    operation = await client.boxfit.calibrate_boxes(CLASSIFIER, DATASET)
    with pytest.raises(mekiki.errors.FailedPrecondition) as refused:
        await operation.result(timeout_s=90)
    assert refused.value.reason == "NO_ACCEPTED_BOXES"


async def test_a_worker_that_is_killed_goes_on_and_what_a_person_did_meanwhile_stays(client, codec):
    """Forty items: the first 32 are behind a checkpoint when the worker is killed at the 36th."""
    for number in range(40):
        codec.add(f"{number:02}", draw(12, 8, 44, 32), "nut")
    accepted = types_pb2.Annotation(label="nut", source="Ada", state=types_pb2.ANNOTATION_STATE_ACCEPTED)

    def kill(item):
        if item.item_id == "35":
            codec.before_update = None
            for name in ("00", "39"):  # done already, and to come
                del codec.items[name].annotations[:]
                codec.items[name].annotations.append(accepted)
                touch(codec.items[name])
            workers = psutil.Process().children(recursive=True)
            next(each for each in workers if "services.boxfit.job" in each.cmdline()).kill()

    codec.before_update = kill
    operation = await client.boxfit.annotate_dataset(CLASSIFIER, DATASET, options=HALF)
    result = await operation.result(timeout_s=150)
    assert codec.before_update is None
    assert (result.annotated_count, result.skipped_count, result.failures) == (39, 1, {})
    assert all(len(item.annotations) == 1 for item in codec.items.values())
    assert [list(codec.items[name].annotations) for name in ("00", "39")] == [[accepted], [accepted]]
    assert codec.updates.count("00") == 1
