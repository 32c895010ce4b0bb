"""A real server on a free port, with a codec that holds parts in memory; and a whole house whose worker is killed."""

import asyncio
import os
import signal
from contextlib import suppress

import numpy as np
import psutil
import pytest
from fake_codec import DATASET, FakeItem, open_codec
from patches import LABELS, SIDE, draw_labelled, draw_part, train_on

import mekiki
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument, Unavailable
from services.runtime.store import Store
from services.saliency.__main__ import OPENING
from services.saliency.config import SaliencySettings
from services.saliency.litter import list_grounds
from services.saliency.segmentation import messages
from services.saliency.segmentation.catalogue import About, open_catalogue
from services.saliency.segmentation.crf_processes import CrfProcesses
from services.saliency.segmentation.dense_crf import apply_crf
from services.saliency.segmentation.work import train_from_labels
from tests.conftest import ROOT
from tests.running import running_services
from tests.waiting import wait_until

ABOUT = About(LABELS, "sec", "small", "none", "from nothing", SIDE, 26, 1, 2, "2026-11-22T00:00:00+00:00")
IMAGE = draw_part(np.random.default_rng(3), 1, 0)[0]
EMPTY = np.full((SIDE, SIDE, 3), 105, np.uint8)


def labelled_items(count=4):
    data = draw_labelled(count)
    for number, pixels in enumerate(data.pictures):
        order = np.argsort(np.arange(len(LABELS)) != data.mains[number], kind="stable")
        labels = tuple(LABELS[kind] for kind in order if data.present[number, kind]) or ("good",)
        mask = pixels[..., 0] > 150 if labels == ("disc",) else None
        yield FakeItem(f"{number:03d}", pixels, labels=labels, mask=mask)


@pytest.fixture(scope="module")
def segmenter():
    return train_on(draw_labelled(8))


@pytest.fixture
async def address(serve, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    return await serve([open_codec(list(labelled_items())), OPENING])


@pytest.fixture
async def client(address):
    async with mekiki.AsyncClient(address) as client:
        yield client


@pytest.fixture
def store(tmp_path):
    return Store.open(f"file://{tmp_path / 'store'}").prefixed("saliency")


@pytest.fixture
async def parts(store, segmenter, client):
    """A server that has a segmenter "parts" of version 1."""
    open_catalogue(store).add("parts", ABOUT, segmenter.save(), "op-1")
    return client.saliency


async def test_a_segmenter_is_trained_over_the_wire_and_then_serves(client):
    operation = await client.saliency.train_segmenter(
        "parts",
        DATASET,
        normal_labels=["good"],
        use_masks=True,
        engine=mekiki.SegmentationEngine.SEC,
        backbone="small",
        epochs=2,
        batch_size=4,
        input_size=64,
        left_out_losses=[mekiki.SegmentationLoss.CONSTRAINT],
    )
    made = await operation.result(timeout_s=300)
    assert (made.name, made.version, made.labels, made.engine) == ("parts", 1, LABELS, "sec")
    assert (made.input_size, made.weights.source) == (64, "none")
    assert (made.train_count, made.left_out_count, made.masked_count) == (14, 0, 4)
    assert await client.saliency.get_segmenter("parts") == made
    found = await client.saliency.segment_image("parts", IMAGE)
    assert found.model == mekiki.ModelRef("parts", 1)
    assert (found.image_width, found.image_height) == (SIDE, SIDE)


async def test_a_training_goes_on_from_the_newest_version(parts, client):
    operation = await client.saliency.train_segmenter(
        "parts", DATASET, normal_labels=["good"], use_masks=True, epochs=1, batch_size=4, go_on=True
    )
    made = await operation.result(timeout_s=300)
    before = await client.saliency.list_segmenters()
    assert (made.version, made.engine, made.labels) == (2, ABOUT.engine, ABOUT.labels)
    assert (made.weights.backbone, made.input_size) == (ABOUT.backbone, ABOUT.input_size)
    assert before == (made,)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("engine", {"engine": mekiki.SegmentationEngine.REFINED}),
        ("backbone", {"backbone": "resnet18"}),
        ("input_size", {"input_size": 96}),
    ],
)
async def test_what_a_training_goes_on_from_cannot_be_changed(parts, field, changes):
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await parts.train_segmenter("parts", DATASET, go_on=True, **changes)
    assert refusal.value.field == field
    assert "version 1" in str(refusal.value)


async def test_a_training_cannot_go_on_from_nothing(client):
    with pytest.raises(mekiki.errors.NotFound):
        await client.saliency.train_segmenter("parts", DATASET, go_on=True)


async def test_a_training_that_goes_on_needs_items_of_the_same_labels(parts, client):
    operation = await client.saliency.train_segmenter("parts", DATASET, go_on=True)  # "good" is a label, too
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await operation.result(timeout_s=300)
    assert refusal.value.field == "items"


@pytest.mark.parametrize("refine", [False, True])
async def test_masks_are_the_models_own_to_the_bit(parts, segmenter, refine):
    wide = np.hstack([IMAGE, IMAGE])
    for image in (IMAGE, wide, IMAGE[..., 0]):
        answer = await parts.segment_image("parts", image, refine=refine)
        expected = segmenter.segment(image, refine=refine)
        assert np.array_equal(answer.label_map(LABELS), expected.classes)
        for one in answer.segments:
            assert one.score == pytest.approx(expected.probabilities[one.mask].mean())


async def test_a_segment_tells_its_box_and_area(parts):
    answer = await parts.segment_image("parts", IMAGE, pixel_size_mm=0.5)
    assert [one.label for one in answer.segments] == list(LABELS)
    for one in answer.segments:
        rows, columns = np.nonzero(one.mask)
        assert one.box == mekiki.Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (one.area_px, one.area_mm2) == (len(rows), pytest.approx(len(rows) / 4))
    plain = await parts.segment_image("parts", IMAGE)
    assert [one.area_mm2 for one in plain.segments] == [None, None]


async def test_an_image_of_nothing_has_no_segment(parts):
    assert (await parts.segment_image("parts", EMPTY)).segments == ()


async def test_masks_as_png_are_those_as_run_lengths(parts):
    by_format = [await parts.segment_image("parts", IMAGE, mask_format=one) for one in mekiki.MaskFormat]
    first, second = (answer.label_map() for answer in by_format)
    assert first.any()
    assert np.array_equal(first, second)


async def test_many_callers_at_once_each_get_their_own_answer(parts, segmenter):
    images = [draw_part(np.random.default_rng(seed), seed % 2)[0] for seed in range(12)]
    answers = await asyncio.gather(
        *(parts.segment_image("parts", image, refine=number % 3 == 0) for number, image in enumerate(images))
    )
    for number, (image, answer) in enumerate(zip(images, answers, strict=True)):
        expected = segmenter.segment(image, refine=number % 3 == 0)
        assert np.array_equal(answer.label_map(LABELS), expected.classes)


async def test_a_bad_frame_answers_its_own_error_and_the_stream_goes_on(parts):
    missing = mekiki.ItemRef(DATASET, "no such item")
    images = [IMAGE, b"no image at all", missing, np.zeros((4, 4), np.uint16), mekiki.ItemRef(DATASET, "001")]
    answers = [answer async for answer in parts.segment_images("parts", images)]
    assert [answer.error is None for answer in answers] == [True, False, False, True, True]
    assert [answer.id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert answers[1].error.field == "image.encoded"
    assert isinstance(answers[2].error, mekiki.errors.NotFound)


async def test_a_crf_that_dies_fails_its_own_image_and_the_next_one_is_refined(parts, monkeypatch):
    refine, failed = CrfProcesses.refine, []

    def die_once(self, scores, picture):
        if not failed:
            failed.append(True)
            raise Unavailable("the dense CRF process failed: it ended")
        return refine(self, scores, picture)

    monkeypatch.setattr(CrfProcesses, "refine", die_once)
    images = [IMAGE, IMAGE, IMAGE]
    answers = [answer async for answer in parts.segment_images("parts", images, refine=True, window=1)]
    assert [answer.error is None for answer in answers] == [False, True, True]
    assert isinstance(answers[0].error, mekiki.errors.Unavailable)


def test_a_killed_process_is_a_clear_error_and_the_next_request_has_a_new_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    scores = np.random.default_rng(0).random((3, 20, 30), np.float32)
    picture = IMAGE[:20, :30].copy()
    processes = CrfProcesses(2)
    try:
        expected = apply_crf(scores, picture)
        assert np.array_equal(processes.refine(scores, picture), expected)
        before = psutil.Process().children()
        (child,) = [one for one in before if "services.saliency.segmentation.crf_child" in one.cmdline()]
        child.kill()
        child.wait(10)
        with suppress(Unavailable):  # where its end was noticed in time, a new one is there already
            processes.refine(scores, picture)
        assert np.array_equal(processes.refine(scores, picture), expected)
        with pytest.raises(Unavailable, match="the dense CRF process failed"):
            processes.refine(scores, picture[:1])  # too few pixels: it ends over it
        assert np.array_equal(processes.refine(scores, picture), expected)
    finally:
        processes.close()


async def test_segmenters_are_described_listed_and_deleted(parts, store, segmenter):
    for name in ("a", "q"):
        open_catalogue(store).add(name, ABOUT, segmenter.save(), f"op-{name}")
    open_catalogue(store).add("q", ABOUT, segmenter.save(), "op-q2")
    listed = await parts.list_segmenters()
    assert [(one.name, one.version) for one in listed] == [("a", 1), ("parts", 1), ("q", 2)]
    await parts.segment_image("q", IMAGE)
    await parts.delete_segmenter("q")
    for call in (parts.get_segmenter("q"), parts.delete_segmenter("q"), parts.segment_image("q", IMAGE)):
        with pytest.raises(mekiki.errors.NotFound) as refusal:
            await call
        assert refusal.value.metadata == {"kind": "segmenter", "name": "q"}


async def test_a_classifier_or_an_object_detector_of_the_same_name_is_another_thing(parts):
    for call in (parts.get_classifier("parts"), parts.get_object_detector("parts"), parts.delete_classifier("parts")):
        with pytest.raises(mekiki.errors.NotFound):
            await call
    assert (await parts.get_segmenter("parts")).version == 1


async def test_a_segmenter_still_in_training_is_a_failed_precondition(client, store):
    open_catalogue(store).announce("soon")
    with pytest.raises(mekiki.errors.FailedPrecondition) as refusal:
        await client.saliency.segment_image("soon", IMAGE)
    assert refusal.value.reason == "SEGMENTER_UNTRAINED"


async def test_damaged_tensors_are_data_loss_and_nothing_of_them_leaks(parts, store):
    open_catalogue(store).add("torn", ABOUT, b"torn", "op-torn")
    with pytest.raises(mekiki.errors.DataLoss):
        await parts.segment_image("torn", IMAGE)
    await parts.segment_image("parts", IMAGE)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("segmenter", {"segmenter": "../escape"}),
        ("segmenter", {"segmenter": ""}),
        ("items.dataset", {"items": mekiki.ItemFilter("")}),
        ("backbone", {"backbone": "no_such_network"}),
        ("epochs", {"epochs": 0}),
        ("epochs", {"epochs": 501}),
        ("learning_rate", {"learning_rate": float("nan")}),
        ("learning_rate", {"learning_rate": 0.2}),
        ("batch_size", {"batch_size": 65}),
        ("input_size", {"input_size": 100}),
        ("input_size", {"input_size": 32}),
        ("input_size", {"input_size": 2048}),
        ("present_decay", {"present_decay": 1.1}),
        ("absent_decay", {"absent_decay": -0.1}),
        ("background_decay", {"background_decay": float("nan")}),
        ("left_out_losses", {"left_out_losses": list(mekiki.SegmentationLoss)}),
        ("seed", {"seed": -1}),
    ],
)
async def test_a_training_that_cannot_be_is_refused_at_once_and_by_name(client, field, changes):
    request = {"segmenter": "parts", "items": DATASET} | changes
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await client.saliency.train_segmenter(**request)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("engine", {"engine": 9}),
        ("left_out_losses", {"left_out_losses": [9]}),
        ("left_out_losses", {"left_out_losses": [0]}),
    ],
)
def test_an_enum_of_a_later_contract_is_refused_by_name(field, changes):
    request = saliency_pb2.TrainSegmenterRequest(segmenter="s", backbone="small", **changes)
    with pytest.raises(InvalidArgument) as refusal:
        messages.read_recipe(request)
    assert refusal.value.field == field


@pytest.mark.parametrize("side", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_pixel_without_a_size_is_refused_by_name(parts, side):
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await parts.segment_image("parts", IMAGE, pixel_size_mm=side)
    assert refusal.value.field == "pixel_size_mm"


def test_a_form_of_masks_that_nobody_knows_is_refused_by_name():
    with pytest.raises(InvalidArgument, match="mask_format: 9 is no MaskFormat"):
        messages.check_question(saliency_pb2.SegmentImageRequest(mask_format=9))


def test_tensors_of_segmenters_are_swept_apart(store):
    catalogue = open_catalogue(store)
    kept = catalogue.add("parts", ABOUT, b"x", "op")
    grounds = {ground.store.prefix: ground for ground in list_grounds(store)}
    body = catalogue.log.latest().body
    assert grounds[catalogue.store.prefix].list_named(body, {}) == {kept.key, kept.assessment_key}


class Lost(Exception):
    pass


class StubJob:
    """A job without a process of its own, whose worker is lost at one of its checkpoints."""

    operation_name = "saliency/operations/stub"

    def __init__(self, address, store, lost_at):
        self.settings = SaliencySettings(codec_address=address)
        self.store = store
        self.lost_at = lost_at
        self.saved, self.steps = [], []

    def report(self, phase, done=0, total=0, **metrics):
        if phase == "training the segmenter":
            self.steps.append((done, total))

    def save_checkpoint(self, data):
        self.saved.append(data)
        if len(self.saved) == self.lost_at:
            raise Lost

    def load_checkpoint(self):
        return self.saved[-1] if self.saved else None


async def test_a_lost_job_does_no_epoch_twice_and_a_job_done_twice_makes_one_version(serve, store):
    address = await serve([open_codec(list(labelled_items()))])
    request = saliency_pb2.TrainSegmenterRequest(
        segmenter="parts",
        items=types_pb2.ItemFilter(dataset=DATASET),
        normal_labels=["good"],
        backbone="small",
        epochs=2,
        batch_size=4,
        input_size=64,
    )
    whole = StubJob(address, store.prefixed("whole"), 0)
    await asyncio.to_thread(train_from_labels, request, whole)
    for lost_at in (3, len(whole.saved) - 1):  # the classifier's third epoch, the segmenter's first
        job = StubJob(address, store.prefixed(str(lost_at)), lost_at)
        with pytest.raises(Lost):
            await asyncio.to_thread(train_from_labels, request, job)
        response = await asyncio.to_thread(train_from_labels, request, job)
        assert job.steps == [(done, 8) for done in range(1, 9)]
        assert await asyncio.to_thread(train_from_labels, request, job) == response
        assert response.segmenter.version == 1
        made, expected = (open_catalogue(one.store) for one in (job, whole))
        assert made.load(made.read().find("parts")) == expected.load(expected.read().find("parts"))


def push_labelled(client):
    client.codec.create_dataset("parts")
    items = (mekiki.NewItem(item.item_id, item.pixels, item.labels, mask=item.mask) for item in labelled_items())
    assert all(answer.error is None for answer in client.codec.append_items("parts", items))


def find_worker(pid):
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it may just have ended
            if "services.saliency.job" in child.cmdline():
                return child
    return None


def test_a_worker_killed_in_mid_training_goes_on_from_its_checkpoint(tmp_path):
    with running_services(tmp_path, {}) as running, mekiki.Client(running.address) as client:
        push_labelled(client)
        operation = client.saliency.train_segmenter(
            "parts",
            "parts",
            normal_labels=["good"],
            engine=mekiki.SegmentationEngine.SEC,
            backbone="small",
            epochs=40,
            batch_size=4,
            input_size=64,
        )
        steps = 40 * 4

        def reached(done):
            operation.wait(0.05)
            seen = operation.seen
            return seen.phase == "training the segmenter" and seen.done >= done

        wait_until(lambda: reached(steps // 8), 120, "the training begins")
        worker = find_worker(running.pid)
        os.kill(worker.pid, signal.SIGKILL)
        before = operation.seen.done
        wait_until(lambda: find_worker(running.pid) not in (None, worker), 60, "another worker")
        made = operation.result(timeout_s=300)
        assert (made.version, made.left_out_count) == (1, 0)
        assert before < steps, "it was killed in mid training"
        found = client.saliency.segment_image("parts", IMAGE, refine=True)
        assert found.model == mekiki.ModelRef("parts", 1)
