"""A real server on a free port, with a codec that holds scenes in memory; and a whole house whose worker is killed."""

import asyncio
import os
import signal
from contextlib import suppress

import numpy as np
import psutil
import pytest
from fake_codec import DATASET, FakeItem, open_codec
from scenes import LABELS, SIDE, SMALL, draw_scene, draw_singles, train_on

import mekiki
from mekiki import Annotation, AnnotationState, Box
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.store import Store
from services.saliency.__main__ import OPENING
from services.saliency.config import SaliencySettings
from services.saliency.detection.catalogue import About, open_catalogue
from services.saliency.detection.objects import Wanted
from services.saliency.detection.work import train_detector
from services.saliency.litter import list_grounds
from tests.conftest import ROOT
from tests.running import running_services
from tests.waiting import wait_until

ABOUT = About(
    LABELS, "small", "none", "from nothing", SIDE, 0.5, 0.9, "image", 20, 6, 19, 0, 50, "2026-11-22T00:00:00+00:00"
)
IMAGE = draw_scene(np.random.default_rng(3), 3)[0]


def boxed_items(count=8, state=AnnotationState.ACCEPTED):
    data = draw_singles(count)
    for number, pixels in enumerate(data.pixels):
        boxes = zip(data.boxes[number].astype(int).tolist(), data.classes[number], strict=True)
        marks = tuple(Annotation(Box(*box), LABELS[kind], state=state) for box, kind in boxes)
        yield FakeItem(f"{number:03d}", pixels, annotations=marks)


@pytest.fixture(scope="module")
def detector():
    from dataclasses import replace

    return train_on(draw_singles(12), replace(SMALL, epochs=12)).detector


@pytest.fixture
async def address(serve, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    return await serve([open_codec(list(boxed_items())), OPENING])


@pytest.fixture
async def client(address):
    async with mekiki.AsyncClient(address) as client:
        yield client


@pytest.fixture
def store(tmp_path):
    return Store.open(f"file://{tmp_path / 'store'}").prefixed("saliency")


@pytest.fixture
async def things(store, detector, client):
    """A server that has an object detector "things" of version 1."""
    open_catalogue(store).add("things", ABOUT, detector.save(), "op-1")
    return client.saliency


async def test_a_detector_is_trained_over_the_wire_and_then_serves(client):
    operation = await client.saliency.train_object_detector(
        "things", DATASET, backbone="small", epochs=2, batch_size=4, input_size=64
    )
    made = await operation.result(timeout_s=120)
    assert (made.name, made.version, made.labels) == ("things", 1, LABELS)
    assert (made.input_size, made.weights.source, made.box_count, made.left_out_count) == (64, "none", 7, 0)
    assert made.train_count + made.validation_count == 10
    assert await client.saliency.get_object_detector("things") == made
    found = await client.saliency.detect_objects("things", IMAGE, min_score=0.01)
    assert found.model == mekiki.ModelRef("things", 1)
    assert (found.image_width, found.image_height) == (SIDE, SIDE)


async def test_objects_are_the_models_own_to_the_bit(things, detector):
    wide = np.hstack([IMAGE, IMAGE])
    for image in (IMAGE, wide, IMAGE[..., 0]):
        answer = await things.detect_objects("things", image, min_score=0.05, max_objects=7)
        (expected,) = detector.detect([image], Wanted(0.05, 7))
        assert len(expected) > 1
        told = [((o.box.x_min, o.box.y_min, o.box.x_max, o.box.y_max), o.label, o.score) for o in answer.objects]
        assert told == [(one.box, one.label, pytest.approx(one.score)) for one in expected]


async def test_many_callers_at_once_each_get_their_own_answer(things, detector):
    images = [draw_scene(np.random.default_rng(seed), 3)[0] for seed in range(12)]
    answers = await asyncio.gather(*(things.detect_objects("things", image, min_score=0.05) for image in images))
    for image, answer in zip(images, answers, strict=True):
        (expected,) = detector.detect([image], Wanted(0.05))
        assert [one.score for one in answer.objects] == [pytest.approx(one.score) for one in expected]


async def test_a_bad_frame_answers_its_own_error_and_the_stream_goes_on(things):
    missing = mekiki.ItemRef(DATASET, "no such item")
    images = [IMAGE, b"no image at all", missing, np.zeros((4, 4), np.uint16), mekiki.ItemRef(DATASET, "001")]
    answers = [answer async for answer in things.detect_objects_in_images("things", images)]
    assert [answer.error is None for answer in answers] == [True, False, False, True, True]
    assert [answer.id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert answers[1].error.field == "image.encoded"
    assert isinstance(answers[2].error, mekiki.errors.NotFound)


async def test_detectors_are_described_listed_and_deleted(things, store, detector):
    for name in ("a", "m"):
        open_catalogue(store).add(name, ABOUT, detector.save(), f"op-{name}")
    open_catalogue(store).add("m", ABOUT, detector.save(), "op-m2")
    listed = await things.list_object_detectors()
    assert [(one.name, one.version) for one in listed] == [("a", 1), ("m", 2), ("things", 1)]
    await things.detect_objects("m", IMAGE)
    await things.delete_object_detector("m")
    for call in (
        things.get_object_detector("m"),
        things.delete_object_detector("m"),
        things.detect_objects("m", IMAGE),
    ):
        with pytest.raises(mekiki.errors.NotFound) as refusal:
            await call
        assert refusal.value.metadata == {"kind": "object detector", "name": "m"}


async def test_a_classifier_of_the_same_name_is_another_thing(things):
    with pytest.raises(mekiki.errors.NotFound):
        await things.get_classifier("things")
    with pytest.raises(mekiki.errors.NotFound):
        await things.delete_classifier("things")
    assert (await things.get_object_detector("things")).version == 1


async def test_a_detector_still_in_training_is_a_failed_precondition(client, store):
    open_catalogue(store).announce("soon")
    with pytest.raises(mekiki.errors.FailedPrecondition) as refusal:
        await client.saliency.detect_objects("soon", IMAGE)
    assert refusal.value.reason == "OBJECT_DETECTOR_UNTRAINED"


async def test_damaged_tensors_are_data_loss_and_nothing_of_them_leaks(things, store):
    entry = open_catalogue(store).add("torn", ABOUT, b"torn", "op-torn")
    assert entry.key.startswith("tensors/torn/")
    with pytest.raises(mekiki.errors.DataLoss):
        await things.detect_objects("torn", IMAGE)
    await things.detect_objects("things", IMAGE)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("object_detector", {"object_detector": "../escape"}),
        ("object_detector", {"object_detector": ""}),
        ("items.dataset", {"items": mekiki.ItemFilter("")}),
        ("backbone", {"backbone": "no_such_network"}),
        ("epochs", {"epochs": 0}),
        ("epochs", {"epochs": 501}),
        ("learning_rate", {"learning_rate": float("nan")}),
        ("batch_size", {"batch_size": 65}),
        ("input_size", {"input_size": 100}),
        ("input_size", {"input_size": 2048}),
        ("validation_fraction", {"validation_fraction": 0.9}),
        ("scene_share", {"scene_share": -0.1}),
        ("seed", {"seed": -1}),
    ],
)
async def test_a_training_that_cannot_be_is_refused_at_once_and_by_name(client, field, changes):
    request = {"object_detector": "things", "items": DATASET} | changes
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await client.saliency.train_object_detector(**request)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("min_score", {"min_score": 0.0}),
        ("min_score", {"min_score": 1.5}),
        ("min_score", {"min_score": float("nan")}),
        ("max_objects", {"max_objects": 0}),
        ("max_objects", {"max_objects": 301}),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused_by_name(things, field, asked):
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await things.detect_objects("things", IMAGE, **asked)
    assert refusal.value.field == field


def test_tensors_of_detectors_are_swept_apart_from_those_of_classifiers(store):
    catalogue = open_catalogue(store)
    kept = catalogue.add("things", ABOUT, b"x", "op")
    grounds = {ground.store.prefix: ground for ground in list_grounds(store)}
    assert len(grounds) == 3
    body = catalogue.log.latest().body
    assert grounds[catalogue.store.prefix].list_named(body, {}) == {kept.key, kept.assessment_key}


class Lost(Exception):
    pass


class StubJob:
    """A job without a process of its own, whose worker is lost after its second checkpoint."""

    operation_name = "saliency/operations/stub"

    def __init__(self, address, store):
        self.settings = SaliencySettings(codec_address=address)
        self.store = store
        self.saved, self.steps = [], []

    def report(self, phase, done=0, total=0, **metrics):
        if phase.startswith("training"):
            self.steps.append((done, total))

    def save_checkpoint(self, data):
        self.saved.append(data)
        if len(self.saved) == 2:
            raise Lost

    def load_checkpoint(self):
        return self.saved[-1] if self.saved else None


async def test_a_lost_job_does_no_epoch_twice_and_a_job_done_twice_makes_one_version(serve, store):
    address = await serve([open_codec(list(boxed_items()))])
    job = StubJob(address, store)
    request = saliency_pb2.TrainObjectDetectorRequest(
        object_detector="things",
        items=types_pb2.ItemFilter(dataset=DATASET),
        backbone="small",
        epochs=4,
        batch_size=4,
        input_size=64,
    )
    with pytest.raises(Lost):
        await asyncio.to_thread(train_detector, request, job)
    response = await asyncio.to_thread(train_detector, request, job)
    assert job.steps == [(done, 8) for done in range(1, 9)]
    assert await asyncio.to_thread(train_detector, request, job) == response
    assert response.object_detector.version == 1


def push_boxed(client):
    client.codec.create_dataset("things")
    items = (
        mekiki.NewItem(item.item_id, item.pixels, ["part"], annotations=item.annotations)
        for item in boxed_items(12, AnnotationState.PROPOSED)
    )
    assert all(answer.error is None for answer in client.codec.append_items("things", items))


def find_worker(pid):
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it may just have ended
            if "services.saliency.job" in child.cmdline():
                return child
    return None


def test_a_worker_killed_in_mid_training_goes_on_from_its_checkpoint(tmp_path):
    with running_services(tmp_path, {}) as running, mekiki.Client(running.address) as client:
        push_boxed(client)
        operation = client.saliency.train_object_detector(
            "things", "things", include_proposed=True, backbone="small", epochs=12, batch_size=4, input_size=64
        )
        steps = 12 * 3

        def reached(done):
            operation.wait(0.05)
            seen = operation.seen
            return seen.phase.startswith("training") and seen.done >= done

        wait_until(lambda: reached(steps // 4), 120, "the training begins")
        worker = find_worker(running.pid)
        os.kill(worker.pid, signal.SIGKILL)
        before = operation.seen.done
        wait_until(lambda: find_worker(running.pid) not in (None, worker), 60, "another worker")
        made = operation.result(timeout_s=300)
        assert (made.version, made.best_epoch >= 1, made.left_out_count) == (1, True, 0)
        assert before < steps, "it was killed in mid training"
        found = client.saliency.detect_objects("things", IMAGE, min_score=0.01)
        assert found.model == mekiki.ModelRef("things", 1)


def test_boxes_that_were_accepted_stay_when_objects_are_proposed():
    from mekiki.cli.detection import merge_proposals

    proposal = Annotation(Box(0, 0, 10, 10), "nut", 0.9, "saliency/things@1")
    item = make_item(
        Annotation(Box(0, 0, 10, 9), "nut", 0.5, "saliency/things@1"),  # an earlier proposal
        Annotation(Box(50, 50, 60, 60), "nut", 0.5, "boxfit/exact saliency/parts@3"),  # somebody else's
        Annotation(Box(20, 20, 30, 30), "bolt", state=AnnotationState.REJECTED),
    )
    other = Annotation(Box(21, 20, 30, 30), "bolt", 0.8, "saliency/things@1")
    merged = merge_proposals(item, [proposal, other])
    assert merged == [*item.annotations[1:], proposal]


def make_item(*marks):
    message = mekiki.codec.v1.codec_pb2.Item(item_id="1", annotations=[mark.to_proto() for mark in marks])
    return mekiki.Item.from_proto(message)
