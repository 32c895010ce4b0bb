"""Wanted images through the model and over the wire."""

import numpy as np
import pytest
import torch
from fake_codec import DATASET, open_codec
from spots import draw, draw_set, train
from test_saliency_service import ABOUT, spot_items

import mekiki
from services.runtime.errors import FailedPrecondition
from services.runtime.store import Store
from services.saliency import bundle
from services.saliency.__main__ import OPENING
from services.saliency.catalogue import Catalogue
from services.saliency.model import Classifier
from services.saliency.triage import Wish

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def filtering(learnt):
    training = learnt.training
    return Classifier(training.network, training.labels, CPU, training.calibration)


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue.open(Store.open(f"file://{tmp_path / 'store'}").prefixed("saliency"))


@pytest.fixture
async def spots(serve, catalogue, filtering):
    address = await serve([open_codec(spot_items()), OPENING])
    catalogue.add("spots", ABOUT, filtering.save(), "op-1")
    async with mekiki.AsyncClient(address) as client:
        yield client.saliency


def test_what_was_trained_on_is_near_and_what_was_not_is_far(filtering):
    data = draw_set(36)
    training, strange = [np.asarray(p) for p in data.pictures], np.zeros((48, 48, 3), np.uint8)
    strange[::2, :, 0] = 255
    sightings = filtering.sight([*training, strange])
    distances = np.array([sighting.distance for sighting in sightings])
    assert np.median(distances[:-1]) < 1e-3
    assert distances[-1] > distances[:-1].max()


def test_a_sighting_does_not_depend_on_its_company(filtering):
    images = [draw("stripes", x, 10, x) for x in range(5)]
    together = filtering.sight(images)
    for image, sighting in zip(images, together, strict=True):
        (alone,) = filtering.sight([image])
        assert (alone.probabilities == sighting.probabilities).all()
        assert alone.distance == sighting.distance


def test_a_loaded_classifier_filters_as_the_saved_one(filtering):
    loaded = Classifier.load(filtering.save(), CPU)
    wish = Wish(("stripes",), 0.9, 0.9)
    assert loaded.choose_filter(wish) == filtering.choose_filter(wish)
    image = draw("stripes", 3, 3, 77)
    assert loaded.sight([image])[0].distance == filtering.sight([image])[0].distance
    assert loaded.save() == filtering.save()


def test_probabilities_are_those_of_the_fitted_temperature(learnt, filtering):
    image = draw("stripes", 9, 9, 78)
    (raw,), (calibrated,) = (classifier.classify([image]) for classifier in (learnt.classifier, filtering))
    temperature = learnt.training.calibration.temperature
    odds = [np.log(p.probabilities[1] / p.probabilities[0]) for p in (raw, calibrated)]
    assert odds[0] == pytest.approx(odds[1] * temperature, rel=1e-3)


def test_an_old_classifier_still_classifies_but_cannot_filter(learnt):
    tensors, about = bundle.unpack(learnt.classifier.save())
    del about["calibration"], about["centre_of"]
    old = Classifier.load(bundle.pack(tensors, about | {"format": 1}), CPU)
    image = draw("stripes", 9, 9)
    assert (old.classify([image])[0].probabilities == learnt.classifier.classify([image])[0].probabilities).all()
    for refused in (lambda: old.sight([image]), lambda: old.choose_filter(Wish(("stripes",)))):
        with pytest.raises(FailedPrecondition) as refusal:
            refused()
        assert refusal.value.reason == "NO_HELD_OUT_ITEMS"


def test_the_assessment_counts_what_was_held_out(learnt):
    told, training = learnt.training.assessment, learnt.training
    assert told.accuracy.total == training.validation_count
    assert told.accuracy.count / told.accuracy.total == pytest.approx(training.best.accuracy)
    assert sum(cell.count for cell in told.confusion) == training.validation_count
    held_out = training.calibration.held_out
    assert held_out.probabilities.shape == (training.validation_count, 2)
    assert told.held_out_unit_count == len(np.unique(held_out.units))


def test_mistakes_are_named():
    data = draw_set(8)
    swapped = tuple(reversed(data.labels))  # labels that mean nothing: half of them must be wrong
    mixed = type(data)(
        data.pictures[::-1].copy(), swapped[::2] + swapped[1::2], data.groups, tuple(f"i{n}" for n in range(16))
    )
    training = train(mixed)
    told = training.assessment
    wrong = told.accuracy.total - told.accuracy.count
    assert len(told.mistakes) == wrong
    assert all(mistake.label != mistake.predicted_label for mistake in told.mistakes)


async def test_an_image_is_filtered_as_the_model_says(spots, filtering):
    image, wish = draw("stripes", 10, 20, 5), Wish(("stripes",), 0.9, 0.9)
    answer = await spots.filter_image("spots", image, ["stripes"], recall=0.9, confidence=0.9)
    (sighting,), chosen = filtering.sight([image]), filtering.choose_filter(wish)
    probability = float(sighting.probabilities[filtering.labels.index("stripes")])
    assert answer.probability == pytest.approx(probability)
    assert answer.distance == pytest.approx(sighting.distance)
    assert answer.verdict == chosen.judge(probability, sighting.distance)
    assert answer.filter.threshold == chosen.threshold
    assert answer.filter.promised_recall == chosen.promised_recall
    assert answer.model == mekiki.ModelRef("spots", 1)


async def test_wanted_unwanted_and_unlike_come_through_one_stream_with_a_bad_frame(spots):
    strange = np.zeros((48, 48, 3), np.uint8)
    strange[::2, :, 0] = 255
    striped, chequered = draw_set(36).pictures[[0, -1]]  # trained on, so that no threshold comes near
    images = [striped, b"no image", chequered, strange, mekiki.ItemRef(DATASET, "003")]
    answers = [answer async for answer in spots.filter_images("spots", images, ["stripes"], recall=0.9, confidence=0.9)]
    assert [answer.error is None for answer in answers] == [True, False, True, True, True]
    assert answers[1].error.field == "image.encoded"
    verdicts = [answer.value.verdict for answer in answers if answer.error is None]
    assert verdicts == ["wanted", "unwanted", "unlike", "wanted"]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("wanted_labels", {"wanted_labels": ["nonsense"]}),
        ("wanted_labels", {"wanted_labels": []}),
        ("wanted_labels", {"wanted_labels": ["stripes", "checks"]}),
        ("recall", {"recall": 1.0}),
        ("recall", {"recall": 0.1}),
        ("confidence", {"confidence": 2.0}),
    ],
)
async def test_a_wish_that_cannot_be_is_refused_by_name(spots, field, asked):
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await spots.filter_image("spots", draw("stripes", 1, 1), **({"wanted_labels": ["stripes"]} | asked))
    assert refusal.value.field == field


async def test_one_without_held_out_items_says_so(spots, catalogue, classifier):
    catalogue.add("old", ABOUT, classifier.save(), "op-2")
    with pytest.raises(mekiki.errors.FailedPrecondition) as refusal:
        await spots.filter_image("old", draw("stripes", 1, 1), ["stripes"])
    assert refusal.value.reason == "NO_HELD_OUT_ITEMS"
