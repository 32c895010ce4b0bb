"""A real server on a free port, with a codec that holds the spots in memory."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_codec import DATASET, FakeItem, open_codec
from spots import SIDE, draw, draw_set

import mekiki
from mekiki.saliency.v1 import saliency_pb2
from mekiki.types.v1 import types_pb2
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.store import Store
from services.saliency.__main__ import OPENING
from services.saliency.catalogue import About, Catalogue
from services.saliency.config import SaliencySettings
from services.saliency.job import train
from services.saliency.model import Question
from tests.conftest import ROOT

ABOUT = About(
    ("checks", "stripes"), "small", "none", "from nothing", SIDE, 0.9, "image", 38, 10, 12, "2026-11-21T07:00:00+00:00"
)


def spot_items():
    data = draw_set(8, groups=4)
    spots = enumerate(zip(data.pictures, data.labels, data.groups, strict=True))
    return [FakeItem(f"{number:03d}", *spot) for number, spot in spots]


@pytest.fixture
async def address(serve, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    return await serve([open_codec(spot_items()), OPENING])


@pytest.fixture
async def client(address):
    async with mekiki.AsyncClient(address) as client:
        yield client


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue.open(Store.open(f"file://{tmp_path / 'store'}").prefixed("saliency"))


@pytest.fixture
async def spots(catalogue, classifier, client):
    """A server that has a classifier "spots" of version 1."""
    catalogue.add("spots", ABOUT, classifier.save(), "op-1")
    return client.saliency


async def test_a_classifier_is_trained_over_the_wire_and_then_serves(client):
    operation = await client.saliency.train_classifier(
        "spots", DATASET, backbone="small", epochs=12, batch_size=8, input_size=64
    )
    made = await operation.result(timeout_s=120)
    assert (made.name, made.version, made.labels) == ("spots", 1, ("checks", "stripes"))
    assert (made.split_by, made.weights.source, made.input_size) == ("group", "none", 64)
    assert made.train_count + made.validation_count == 16
    assert "MEKIKI_WEIGHTS_DIR" in made.weights.description
    assert await client.saliency.get_classifier("spots") == made
    answer = await client.saliency.explain_image("spots", draw("stripes", 20, 20))
    assert answer.model == mekiki.ModelRef("spots", 1)


async def test_an_image_is_classified_as_the_model_itself_does(spots, classifier):
    image = draw("stripes", 10, 20)
    answer = await spots.classify_image("spots", image)
    (expected,) = classifier.classify([image])
    assert [(label.label, label.score) for label in answer.labels] == list(expected.ranking)
    assert answer.model == mekiki.ModelRef("spots", 1)


async def test_an_explanation_is_the_models_own_to_the_bit(spots, classifier):
    image = np.vstack([draw("checks", 10, 20)] * 2)
    answer = await spots.explain_image("spots", image, label="checks", heatmap_side=60)
    (expected,) = classifier.explain([image], Question("checks", heatmap_side=60))
    assert answer.heatmap.values.shape == (60, 30)
    assert (answer.heatmap.values == expected.heatmap).all()
    assert (answer.label, answer.score, answer.method) == ("checks", pytest.approx(expected.score), "cam")
    assert (answer.image_width, answer.image_height) == (SIDE, 2 * SIDE)


async def test_an_average_over_scales_and_mirror_images_comes_with_each_of_them_if_asked(spots, classifier):
    image = draw("checks", 10, 20)
    answer = await spots.explain_image("spots", image, scales=(1.0, 2.0), flip=True, with_views=True)
    (expected,) = classifier.explain([image], Question(scales=(1.0, 2.0), flip=True, with_views=True))
    assert (answer.heatmap.values == expected.heatmap).all()
    assert len(answer.views) == 4
    assert all((view.values == own).all() for view, own in zip(answer.views, expected.views, strict=True))
    assert (await spots.explain_image("spots", image, flip=True)).views == ()
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await spots.explain_image("spots", image, scales=(1.0, 99.0))
    assert refusal.value.field == "scales"


async def test_many_callers_at_once_each_get_their_own_answer(spots, classifier):
    images = [draw("stripes" if number % 2 else "checks", number, 20, number) for number in range(24)]
    sides = [(0, 12, 20)[number % 3] for number in range(24)]
    asked = zip(images, sides, strict=True)
    answers = await asyncio.gather(*(spots.explain_image("spots", image, heatmap_side=side) for image, side in asked))
    for image, side, answer in zip(images, sides, answers, strict=True):
        (expected,) = classifier.explain([image], Question(heatmap_side=side))
        assert (answer.heatmap.values == expected.heatmap).all()


async def test_a_bad_frame_answers_its_own_error_and_the_stream_goes_on(spots):
    images = [draw("stripes", 5, 5), b"no image at all", draw("checks", 5, 5)]
    for stream in (spots.classify_images("spots", images), spots.explain_images("spots", images)):
        answers = [answer async for answer in stream]
        assert [answer.error is None for answer in answers] == [True, False, True]
        assert isinstance(answers[1].error, mekiki.errors.InvalidArgument)
        assert answers[1].error.field == "image.encoded"


async def test_an_item_of_a_data_set_is_classified_without_sending_it(spots):
    stored, sent = mekiki.ItemRef(DATASET, "003"), spot_items()[3].pixels
    assert await spots.classify_image("spots", stored) == await spots.classify_image("spots", sent)
    for missing in (mekiki.ItemRef(DATASET, "no such item"), mekiki.ItemRef("no such set", "003")):
        with pytest.raises(mekiki.errors.NotFound):
            await spots.classify_image("spots", missing)


async def test_classifiers_are_described_listed_and_deleted(spots, catalogue, classifier):
    for name in ("a", "z", "m"):
        catalogue.add(name, ABOUT, classifier.save(), f"op-{name}")
    catalogue.add("m", ABOUT, classifier.save(), "op-m2")
    listed = await spots.list_classifiers()
    assert [(one.name, one.version) for one in listed] == [("a", 1), ("m", 2), ("spots", 1), ("z", 1)]
    assert (await spots.get_classifier("m")).version == 2
    await spots.classify_image("m", draw("checks", 1, 1))
    await spots.delete_classifier("m")
    for call in (
        spots.get_classifier("m"),
        spots.delete_classifier("m"),
        spots.classify_image("m", draw("checks", 1, 1)),
    ):
        with pytest.raises(mekiki.errors.NotFound) as refusal:
            await call
        assert refusal.value.metadata == {"kind": "classifier", "name": "m"}


async def test_pages_follow_each_other_and_a_page_size_has_limits(address, spots, catalogue):
    import grpc

    from mekiki.saliency.v1 import saliency_pb2_grpc

    for number in range(4):
        catalogue.add(f"p{number}", ABOUT, b"", f"op-{number}")
    async with grpc.aio.insecure_channel(address) as channel:
        stub = saliency_pb2_grpc.SaliencyServiceStub(channel)
        pages, token = [], ""
        while not pages or token:
            page = await stub.ListClassifiers(saliency_pb2.ListClassifiersRequest(page_size=2, page_token=token))
            pages.append([one.name for one in page.classifiers])
            token = page.next_page_token
        assert pages == [["p0", "p1"], ["p2", "p3"], ["spots"]]
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.ListClassifiers(saliency_pb2.ListClassifiersRequest(page_size=1001))
        assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_classifier_still_in_training_is_a_failed_precondition(client, catalogue):
    catalogue.announce("soon")
    with pytest.raises(mekiki.errors.FailedPrecondition) as refusal:
        await client.saliency.classify_image("soon", draw("checks", 1, 1))
    assert refusal.value.reason == "CLASSIFIER_UNTRAINED"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("classifier", {"classifier": "../escape"}),
        ("classifier", {"classifier": ""}),
        ("items.dataset", {"items": types_pb2.ItemFilter()}),
        ("backbone", {"backbone": "no_such_network"}),
        ("epochs", {"epochs": 0}),
        ("epochs", {"epochs": 501}),
        ("learning_rate", {"learning_rate": -1.0}),
        ("batch_size", {"batch_size": 0}),
        ("input_size", {"input_size": 100}),
        ("input_size", {"input_size": 2048}),
        ("validation_fraction", {"validation_fraction": 0.9}),
    ],
)
async def test_a_training_that_cannot_be_is_refused_at_once_and_by_name(client, field, changes):
    request = {"classifier": "spots", "items": DATASET} | changes
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await client.saliency.train_classifier(**request)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("label", {"label": "no such label"}),
        ("layer", {"layer": "no.such.layer"}),
        ("method", {"layer": "stages.1", "method": mekiki.ExplainMethod.CAM}),
        ("heatmap_side", {"heatmap_side": 4097}),
        ("heatmap_side", {"heatmap_side": 4096}),  # 64 MiB: more than a message may hold
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused_by_name(spots, field, asked):
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await spots.explain_image("spots", draw("checks", 1, 1), **asked)
    assert refusal.value.field == field


class StubJob:
    """A job without a process of its own."""

    def __init__(self, address, tmp_path, **settings):
        store_url = f"file://{tmp_path / 'store'}"
        self.settings = SaliencySettings(codec_address=address, store_url=store_url, weights_hub=False, **settings)
        self.store = Store.open(store_url).prefixed("saliency")
        self.operation_name = "saliency/operations/stub"
        self.checkpoint = None
        self.reports = []

    def report(self, phase, done=0, total=0, **metrics):
        self.reports.append(SimpleNamespace(phase=phase, done=done, total=total, metrics=metrics))

    def save_checkpoint(self, data):
        self.checkpoint = data

    def load_checkpoint(self):
        return self.checkpoint


def ask_to_train(**fields):
    fields = {"backbone": "small", "epochs": 1, "input_size": 32} | fields
    return saliency_pb2.TrainClassifierRequest(
        classifier="spots", items=types_pb2.ItemFilter(dataset=DATASET), **fields
    )


async def run_with(serve, tmp_path, items, request=None, **settings):
    address = await serve([open_codec(items)])
    job = StubJob(address, tmp_path, **settings)
    return await asyncio.to_thread(train, request or ask_to_train(), job), job


async def test_damaged_and_unlabelled_items_are_left_out_and_counted(serve, tmp_path):
    items = spot_items()
    items[2], items[5] = replace(items[2], pixels=None), replace(items[5], label="")
    response, job = await run_with(serve, tmp_path, items)
    assert response.classifier.train_count + response.classifier.validation_count == 14
    reading = [report for report in job.reports if report.phase == "reading images"]
    assert [report.total for report in reading] == [15] * 14
    assert reading[-1].metrics == {"damaged_items": 1}


async def test_a_job_that_is_done_twice_makes_one_version(serve, tmp_path):
    response, job = await run_with(serve, tmp_path, spot_items())
    again = await asyncio.to_thread(train, ask_to_train(), job)
    assert again == response
    assert response.classifier.version == 1


async def test_a_new_training_makes_a_new_version(serve, tmp_path):
    _, job = await run_with(serve, tmp_path, spot_items())
    job.operation_name, job.checkpoint = "saliency/operations/second", None
    assert (await asyncio.to_thread(train, ask_to_train(), job)).classifier.version == 2


async def test_one_label_alone_is_refused_before_any_pixel_is_read(serve, tmp_path):
    items = [replace(item, label="only", pixels=None) for item in spot_items()]
    with pytest.raises(InvalidArgument, match="'only' \\(16 images\\)"):
        await run_with(serve, tmp_path, items)


async def test_too_many_items_are_refused(serve, tmp_path):
    with pytest.raises(InvalidArgument, match="16 labelled items"):
        await run_with(serve, tmp_path, spot_items(), max_training_items=10)


async def test_weights_that_cannot_be_had_are_told_with_the_file_and_the_place(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    request = ask_to_train(backbone="resnet10t")
    with pytest.raises(FailedPrecondition, match=r"resnet10t\.safetensors") as refusal:
        await run_with(serve, tmp_path, spot_items(), request, weights_dir=tmp_path)
    assert refusal.value.reason == "WEIGHTS_MISSING"


async def test_a_data_set_that_does_not_exist_is_the_neighbours_own_error(serve, tmp_path):
    request = ask_to_train()
    request.items.dataset = "elsewhere"
    with pytest.raises(mekiki.errors.NotFound, match="elsewhere"):
        await run_with(serve, tmp_path, spot_items(), request)
