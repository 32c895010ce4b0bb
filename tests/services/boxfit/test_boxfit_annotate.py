"""What the worker does to a data set, against a codec and a saliency in memory."""

import asyncio

import numpy as np
import pytest
from boxfit_neighbours import CLASSIFIER, DATASET, SEGMENTER, draw, touch

import mekiki
from mekiki.types.v1 import types_pb2
from services.boxfit import annotate
from services.boxfit.annotate import Plan, Tally, annotate_items
from services.boxfit.model import FitOptions, ObjectOptions
from services.boxfit.propose import Manner

OLD = types_pb2.Annotation(
    annotation_id="old", label="nut", source="boxfit/tight saliency/kinds@2", state=types_pb2.ANNOTATION_STATE_PROPOSED
)
ACCEPTED = types_pb2.Annotation(
    annotation_id="good", label="nut", source="Ada", state=types_pb2.ANNOTATION_STATE_ACCEPTED
)
FOREIGN = types_pb2.Annotation(annotation_id="import", label="nut", source="a drawing programme")
BOX = types_pb2.Box(x_min=12, y_min=8, x_max=44, y_max=32)
IMAGE = draw(12, 8, 44, 32)


class Course:
    """A job that remembers, and may stop after a number of reports."""

    def __init__(self, stop_after=None, checkpoint=None):
        self.stop_after = stop_after
        self.checkpoint = checkpoint
        self.reports = []

    def report(self, phase, done=0, total=0, **metrics):
        if self.stop_after is not None and len(self.reports) >= self.stop_after:
            raise KeyboardInterrupt
        self.reports.append((done, total))

    def save_checkpoint(self, data):
        self.checkpoint = data

    def load_checkpoint(self):
        return self.checkpoint


def plan(**changes):
    fields = {
        "dataset": DATASET,
        "classifier": CLASSIFIER,
        "manner": Manner(FitOptions(threshold=0.5), 0.5, mekiki.ExplainOptions()),
        "use_item_labels": False,
        "skip_labels": frozenset(),
        "max_pixels": 1 << 20,
    }
    return Plan(**fields | changes)


@pytest.fixture
def run(address):
    async def run(course=None, items=None, **changes):
        def work():
            with mekiki.Client(address) as client:
                wanted = items or types_pb2.ItemFilter(dataset=DATASET)
                return annotate_items(client, plan(**changes), wanted, 3, course or Course())

        return await asyncio.to_thread(work)

    return run


async def test_each_item_gets_its_box_and_progress_is_told(run, codec):
    for number in range(7):
        codec.add(f"{number}", draw(4 * number, 8, 4 * number + 20, 32), "nut")
    course = Course()
    tally = await run(course)
    assert (tally.annotated, tally.skipped, tally.needs_review, tally.failures) == (7, 0, 0, ())
    assert [item.annotations[0].box.x_min for item in codec.items.values()] == [4 * number for number in range(7)]
    assert course.reports == [(number, 7) for number in range(1, 8)]


async def test_an_item_with_an_accepted_box_is_left_alone_and_not_even_read(run, codec):
    codec.add("a", IMAGE, annotations=[ACCEPTED, OLD])
    codec.add("b", IMAGE)
    tally = await run()
    assert (tally.annotated, tally.skipped) == (1, 1)
    assert list(codec.items["a"].annotations) == [ACCEPTED, OLD]
    assert (codec.reads, codec.updates) == (["b"], ["b"])


async def test_earlier_proposals_are_replaced_and_what_others_made_stays(run, codec):
    codec.add("a", IMAGE, annotations=[FOREIGN, OLD])
    await run()
    await run()
    foreign, new = codec.items["a"].annotations
    assert foreign.annotation_id == "import"
    assert (new.source, new.box) == ("boxfit/exact saliency/kinds@3", BOX)


async def test_a_box_that_a_person_rejected_is_not_proposed_again_but_another_is(run, codec):
    rejected = types_pb2.Annotation(label="nut", box=BOX, state=types_pb2.ANNOTATION_STATE_REJECTED)
    codec.add("a", IMAGE, annotations=[rejected])
    codec.add("b", draw(12, 8, 48, 32), annotations=[rejected])
    tally = await run()
    assert (tally.annotated, tally.skipped) == (1, 1)
    assert list(codec.items["a"].annotations) == [rejected]
    assert [annotation.state for annotation in codec.items["b"].annotations] == [
        types_pb2.ANNOTATION_STATE_REJECTED,
        types_pb2.ANNOTATION_STATE_PROPOSED,
    ]


async def test_an_edit_in_between_is_read_again_and_kept(run, codec):
    def add_foreign(item):
        codec.before_update = None
        item.annotations.append(FOREIGN)
        touch(item)

    codec.add("a", IMAGE)
    codec.before_update = add_foreign
    assert (await run()).annotated == 1
    assert [annotation.source[:6] for annotation in codec.items["a"].annotations] == ["a draw", "boxfit"]


async def test_a_box_accepted_in_between_is_not_overwritten(run, codec):
    def accept(item):
        codec.before_update = None
        item.annotations.append(ACCEPTED)
        touch(item)

    codec.add("a", IMAGE)
    codec.before_update = accept
    tally = await run()
    assert (tally.annotated, tally.skipped) == (0, 1)
    assert list(codec.items["a"].annotations) == [ACCEPTED]


async def test_an_item_that_changes_again_and_again_fails_alone(run, codec):
    codec.add("a", IMAGE)
    codec.add("b", IMAGE)
    codec.before_update = lambda item: touch(item) if item.item_id == "a" else None
    tally = await run()
    assert tally.annotated == 1
    assert [item for item, _ in tally.failures] == ["a"]


async def test_skipped_labels_get_no_box(run, codec):
    codec.add("a", IMAGE, "empty")
    codec.add("b", IMAGE, "nut")
    tally = await run(skip_labels=frozenset({"empty"}))
    assert (tally.annotated, tally.skipped, codec.updates) == (1, 1, ["b"])


async def test_the_label_looked_for_is_the_items_own_or_the_classifiers_choice(run, codec, saliency):
    codec.add("a", IMAGE, "bolt")
    await run()
    assert codec.items["a"].annotations[0].label == "nut"
    await run(use_item_labels=True)
    assert codec.items["a"].annotations[0].label == "bolt"
    assert saliency.explained == ["", "bolt"]


async def test_items_fail_alone_each_with_its_reason(run, codec):
    codec.add("a-damaged", None, "nut")
    codec.add("b-unlabelled", IMAGE)
    codec.add("c-unknown", IMAGE, "cat")
    codec.add("d-dark", draw(0, 0, 0, 0), "nut")
    codec.add("e-good", IMAGE, "nut")
    tally = await run(use_item_labels=True)
    assert tally.annotated == 1
    reasons = dict(tally.failures)
    assert list(reasons) == ["a-damaged", "b-unlabelled", "c-unknown", "d-dark"]
    assert "torn" in reasons["a-damaged"]
    assert "no label" in reasons["b-unlabelled"]
    assert "'cat'" in reasons["c-unknown"]
    assert "nothing in it speaks for 'nut'" in reasons["d-dark"]


async def test_low_scores_are_counted_for_a_person(run, codec):
    codec.add("a", IMAGE)
    tally = await run(manner=Manner(FitOptions(threshold=0.5), 0.99, mekiki.ExplainOptions()))
    assert tally.needs_review == 1
    assert codec.items["a"].annotations[0].needs_review


async def test_a_stopped_worker_is_resumed_from_its_checkpoint(run, codec, monkeypatch):
    monkeypatch.setattr(annotate, "CHUNK", 4)
    for number in range(10):
        codec.add(f"{number}", IMAGE if number != 1 else None, "nut")
    course = Course(stop_after=6)
    with pytest.raises(KeyboardInterrupt):
        await run(course)
    assert Tally.from_bytes(course.checkpoint).after == "3"
    codec.reads.clear()
    again = Course(checkpoint=course.checkpoint)
    tally = await run(again)
    assert (tally.annotated, [item for item, _ in tally.failures]) == (9, ["1"])
    assert codec.reads == ["4", "5", "6", "7", "8", "9"]
    assert again.reports[0] == (5, 10)
    assert all(len(item.annotations) == 1 for key, item in codec.items.items() if key != "1")


async def test_original_pixels_are_read_whatever_form_was_asked_for(run, codec):
    codec.add("a", IMAGE)
    wanted = types_pb2.ItemFilter(dataset=DATASET, form=types_pb2.ITEM_FORM_PREPARED, encoding_id="prepared-1")
    assert (await run(items=wanted)).annotated == 1


async def test_an_unknown_classifier_or_data_set_ends_the_work(run):
    with pytest.raises(mekiki.errors.NotFound):
        await run(classifier="other")
    with pytest.raises(mekiki.errors.NotFound):
        await run(items=types_pb2.ItemFilter(dataset="other"))


def test_a_tally_survives_its_checkpoint():
    tally = Tally("x", 3, 2, 1, (("a", "torn"), ("b", "dark")))
    assert Tally.from_bytes(tally.to_bytes()) == tally
    assert Tally.from_bytes(None) == Tally()


async def test_of_several_boxes_those_that_a_person_rejected_are_not_proposed_again(run, codec):
    both = np.maximum(draw(4, 8, 24, 32), draw(36, 12, 60, 40))
    rejected = types_pb2.Annotation(
        label="nut",
        box=types_pb2.Box(x_min=4, y_min=8, x_max=24, y_max=32),
        state=types_pb2.ANNOTATION_STATE_REJECTED,
    )
    codec.add("a", both, annotations=[rejected, OLD])
    codec.add("b", both, annotations=[ACCEPTED, OLD])
    several = FitOptions(threshold=0.5, objects=ObjectOptions(max_objects=3))
    tally = await run(manner=Manner(several, 0.5, mekiki.ExplainOptions()))
    assert (tally.annotated, tally.skipped) == (1, 1)
    first, second = codec.items["a"].annotations
    assert first == rejected
    assert (second.box.x_min, second.state) == (36, types_pb2.ANNOTATION_STATE_PROPOSED)
    assert list(codec.items["b"].annotations) == [ACCEPTED, OLD]


async def test_a_segmenters_masks_stand_in_for_heat_maps(run, codec):
    image = draw(12, 9, 43, 31)
    image[35:45, 3:20] = 150
    codec.add("1", image, "nut")
    codec.add("2", image, "bolt")
    codec.add("3", draw(0, 0, 0, 0), "nut")
    how = {"classifier": "", "segmenter": SEGMENTER}
    tally = await run(use_item_labels=True, **how)
    assert (tally.annotated, tally.failures) == (2, (("3", "image: nothing in it speaks for 'nut'"),))
    nut, bolt = (codec.items[name].annotations[0] for name in "12")
    assert nut.box == types_pb2.Box(x_min=12, y_min=9, x_max=43, y_max=31), "to the pixel"
    assert bolt.box == types_pb2.Box(x_min=3, y_min=35, x_max=20, y_max=45)
    assert (nut.label, bolt.label) == ("nut", "bolt")
    assert nut.source == f"boxfit/exact saliency/{SEGMENTER}@3"
    assert nut.score == pytest.approx(0.9), "nothing about it depends on a threshold"
    tally = await run(**how)
    assert codec.items["2"].annotations[0].label == "nut", "what there is most of"


async def test_a_segmenters_mask_may_hold_several_objects(run, codec):
    codec.add("1", np.maximum(draw(4, 4, 16, 16), draw(40, 20, 60, 40)), "nut")
    manner = Manner(FitOptions(objects=ObjectOptions(max_objects=5)), 0.5, mekiki.ExplainOptions())
    await run(classifier="", segmenter=SEGMENTER, manner=manner)
    boxes = [one.box for one in codec.items["1"].annotations]
    assert sorted((box.x_min, box.y_min, box.x_max, box.y_max) for box in boxes) == [(4, 4, 16, 16), (40, 20, 60, 40)]
