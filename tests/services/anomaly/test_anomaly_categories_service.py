"""Several categories of parts over the wire: a detector of bars and rings, whose images are judged as sent."""

import asyncio

import numpy as np
import pytest
from anomaly_codec import DATASET, FakeItem, open_codec
from anomaly_house import FakeJob, calibrate_kinds, tell_about
from anomaly_parts import CPU, draw_part, draw_ring
from prometheus_client import REGISTRY

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.__main__ import OPENING
from services.anomaly.catalogue import Catalogue
from services.anomaly.entries import Reference
from services.anomaly.job import calibrate_detector, evaluate_detector
from services.anomaly.model import Detector
from services.anomaly.training import PatchOptions, save_model
from services.runtime.errors import FailedPrecondition
from services.runtime.store import Store

KINDS = {"bar": draw_part, "ring": draw_ring}
OPTIONS = PatchOptions(192, coreset_fraction=1.0)
NORMALS = {kind: [FakeItem(f"{kind}-{n:02d}", draw(n), kind) for n in range(12)] for kind, draw in KINDS.items()}
TEST = [FakeItem(f"test-{kind}-{n}", draw(500 + n), "good", "test") for kind, draw in KINDS.items() for n in range(3)]
TEST += [
    FakeItem(f"test-bad-{kind}-{n}", draw(600 + n, defect=True), "bad", "test")
    for kind, draw in KINDS.items()
    for n in range(3)
]
BAR, RING = draw_part(900), draw_ring(900)
ENROLLED = 8  # of each kind


@pytest.fixture
async def address(serve):
    items = [item for kind in NORMALS.values() for item in kind]
    return await serve([open_codec([*items, *TEST]), OPENING], follow_ms=50)


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue.open(Store.open(f"file://{tmp_path / 'store'}").prefixed("anomaly"))


@pytest.fixture
async def anomaly(address, catalogue, raw_model):
    """A server whose detector "parts" has 8 normals of each kind."""
    catalogue.add("parts", tell_about(OPTIONS), save_model(raw_model), "op-1")
    async with mekiki.AsyncClient(address) as client:
        await client.anomaly.enroll_items("parts", enroll("bar", "ring"))
        yield client.anomaly


@pytest.fixture
def job(address, catalogue):
    return FakeJob(address, catalogue.store)


def enroll(*kinds, count=ENROLLED):
    return [mekiki.EnrolledItem(item.item_id, item.pixels, kind) for kind in kinds for item in NORMALS[kind][:count]]


async def test_an_image_is_judged_as_the_nearest_category_or_as_the_one_given(anomaly):
    bar, ring = await anomaly.score_image("parts", BAR), await anomaly.score_image("parts", RING)
    assert [(told.category, told.nearest_item_id[:4]) for told in (bar, ring)] == [("bar", "bar-"), ("ring", "ring")]
    told = await anomaly.score_image("parts", RING, category="bar")
    assert (told.category, told.nearest_item_id[:4]) == ("bar", "bar-")
    assert told.score > ring.score
    assert (await anomaly.score_image("parts", RING, category="ring")).score == ring.score
    streamed = [answer.value async for answer in anomaly.score_images("parts", [BAR, RING], category="ring")]
    assert [each.category for each in streamed] == ["ring", "ring"]


async def test_an_unknown_category_is_not_found(anomaly):
    with pytest.raises(mekiki.errors.NotFound, match="category 'nut' does not exist"):
        await anomaly.score_image("parts", BAR, category="nut")


async def test_a_category_that_another_replica_has_just_enrolled_is_known_at_once(anomaly, catalogue, raw_model):
    elsewhere = catalogue.open_bank(catalogue.read().find(Reference("parts")), raw_model.engine.layout)
    stranger = Detector(raw_model, elsewhere.snapshot, None, CPU).contribute_item(RING[::-1])
    for number in range(5):
        elsewhere.enroll([(f"new-{number}", f"new-{number}", stranger)])
        assert (await anomaly.score_image("parts", RING, category=f"new-{number}")).category == f"new-{number}"


async def test_a_detector_counts_its_categories_and_forgets_them(anomaly):
    described = await anomaly.get_detector("parts")
    assert (described.categories, described.enrolled_count) == ({"bar": 8, "ring": 8}, 16)
    await anomaly.enroll_items("parts", [mekiki.EnrolledItem("bar-00", BAR, "ring")])
    assert (await anomaly.get_detector("parts")).categories == {"bar": 8, "ring": 8}
    await anomaly.forget_items("parts", [item.item_id for item in NORMALS["ring"]] + ["bar-00"])
    assert (await anomaly.get_detector("parts")).categories == {"bar": 7}
    assert (await anomaly.score_image("parts", RING)).category == "bar"


def ask(*kinds, count=12):
    ids = [item.item_id for kind in kinds for item in NORMALS[kind][:count]]
    items = types_pb2.ItemFilter(dataset=DATASET, item_ids=ids)
    return anomaly_pb2.CalibrateDetectorRequest(detector="parts", items=items, false_alarm_rate=0.2, confidence=0.9)


async def test_each_category_is_calibrated_by_its_own_normals(anomaly, job, catalogue):
    response = await asyncio.to_thread(calibrate_detector, ask("bar", "ring"), job)
    assert [each.threshold.category for each in response.categories] == ["bar", "ring"]
    described = await anomaly.get_detector("parts")
    for each in response.categories:
        assert each.threshold.normal_count == len(each.scores) == 12
        assert min(each.scores) > 0  # against itself an enrolled item scores exactly 0
        assert described.thresholds[each.threshold.category].value == each.threshold.value
    assert described.threshold is None  # there are two
    # Those that are not enrolled were judged as they would be served.
    for kind, each in zip(("bar", "ring"), response.categories, strict=True):
        for item in NORMALS[kind][ENROLLED:]:
            told = await anomaly.score_image("parts", item.pixels)
            assert (told.category, told.threshold) == (kind, each.threshold.value)
            assert told.score in each.scores
            assert told.p_value == (1 + sum(score >= told.score for score in each.scores)) / 13
    for kind, draw in KINDS.items():
        bad = await anomaly.score_image("parts", draw(700, defect=True))
        assert (bad.category, bad.verdict) == (kind, "anomalous")


async def test_an_enrolled_item_counts_for_its_own_category_whatever_is_nearer(anomaly, job):
    misplaced = mekiki.EnrolledItem("ring-11", draw_ring(11), "bar")
    await anomaly.enroll_items("parts", [*enroll("bar", count=12), *enroll("ring", count=11), misplaced])
    response = await asyncio.to_thread(calibrate_detector, ask("bar", "ring"), job)
    assert [len(each.scores) for each in response.categories] == [13, 11]
    assert max(response.categories[0].scores) > 2 * response.categories[0].scores[-2]


async def test_too_few_normals_of_a_category_are_refused_before_anything_is_scored(anomaly, job):
    request = ask("bar")
    request.items.item_ids.extend(item.item_id for item in NORMALS["ring"][:2])
    for item in NORMALS["bar"][ENROLLED:]:  # nobody knows yet what these are
        request.items.item_ids.remove(item.item_id)
    with pytest.raises(FailedPrecondition, match=r"needs 11 normal images of category 'bar', got 8"):
        await asyncio.to_thread(calibrate_detector, request, job)
    assert job.phases == []


async def test_too_few_normals_of_a_category_change_nothing(anomaly, job, catalogue):
    calibrate_kinds(catalogue, "parts", {"bar": (1e9, [1.0])})
    request = ask("bar")
    request.items.item_ids.extend(item.item_id for item in NORMALS["ring"][:ENROLLED])
    with pytest.raises(FailedPrecondition, match=r"needs 11 normal images of category 'ring', got 8"):
        await asyncio.to_thread(calibrate_detector, request, job)
    assert {name: each.value for name, each in (await anomaly.get_detector("parts")).thresholds.items()} == {"bar": 1e9}


async def test_a_category_without_threshold_is_scored_without_verdict(anomaly, catalogue):
    calibrate_kinds(catalogue, "parts", {"bar": (1e9, [1.0])})
    assert (await anomaly.score_image("parts", BAR)).verdict == "normal"
    told = await anomaly.score_image("parts", RING)
    assert (told.category, told.verdict, told.threshold, told.p_value) == ("ring", None, None, None)


async def test_a_version_is_promoted_that_has_a_threshold_for_every_category_that_had_one(
    anomaly, catalogue, raw_model
):
    catalogue.add("parts", tell_about(OPTIONS), save_model(raw_model), "op-2")
    calibrate_kinds(catalogue, "parts", {"bar": (1.0, [1.0]), "ring": (1.0, [1.0]), "long gone": (1.0, [1.0])})
    await anomaly.enroll_items("parts@2", enroll("bar", "ring", count=1))
    for done, missing in (({}, "'bar', 'ring'"), ({"bar": (1.0, [1.0])}, "'ring'")):
        if done:
            calibrate_kinds(catalogue, "parts@2", done)
        with pytest.raises(mekiki.errors.FailedPrecondition, match=f"has no threshold for {missing}, and") as refusal:
            await anomaly.promote_detector("parts@2")
        assert refusal.value.reason == "DETECTOR_UNCALIBRATED"
    calibrate_kinds(catalogue, "parts@2", {"bar": (1.0, [1.0]), "ring": (1.0, [1.0])})
    assert (await anomaly.promote_detector("parts@2")).serving


def read_gauge(name):
    (shown,) = [metric for metric in REGISTRY.collect() if metric.name == name]
    return {s.labels["category"]: s.value for s in shown.samples if s.labels["detector"] == "parts"}


async def test_drift_is_told_of_the_category_that_drifts(anomaly, catalogue):
    bar, ring = (await anomaly.score_image("parts", BAR)).score, (await anomaly.score_image("parts", RING)).score
    calm, risen = np.linspace(0.1, 2, 200), np.linspace(0.1, 0.5, 200)
    calibrate_kinds(catalogue, "parts", {"bar": (3 * bar, calm * bar), "ring": (3 * ring, risen * ring)})
    async for _ in anomaly.score_images("parts", [BAR, RING] * 40, heatmap_side=0):
        pass
    drift = (await anomaly.get_detector("parts")).drift
    assert (drift.category, drift.drifted, drift.image_count) == ("ring", True, 40)
    assert read_gauge("mekiki_drifted") == {"bar": 0, "ring": 1}
    calibrate_kinds(catalogue, "parts", {"bar": (2 * bar, calm * bar), "ring": (2 * ring, calm * ring)})
    async with asyncio.timeout(60):
        while (await anomaly.score_image("parts", BAR)).threshold != 2 * bar:
            pass
    assert read_gauge("mekiki_drifted") == {"bar": 0}  # a new calibration begins anew


async def test_an_evaluation_tells_each_items_category_and_counts_verdicts_where_there_are_any(anomaly, job, catalogue):
    calibrate_kinds(catalogue, "parts", {"bar": (1e9, [1.0])})
    request = anomaly_pb2.EvaluateDetectorRequest(
        detector="parts", items=types_pb2.ItemFilter(dataset=DATASET, splits=["test"])
    )
    response = await asyncio.to_thread(evaluate_detector, request, job)
    assert all(item.category in item.item_id for item in response.scores)
    assert (response.misses.count, response.misses.total, response.false_alarms.total) == (3, 3, 3)


async def test_an_image_scores_as_offline_whatever_else_is_enrolled(anomaly, catalogue, raw_model):
    entry = catalogue.read().find(Reference("parts"))
    offline = Detector(raw_model, catalogue.open_bank(entry, raw_model.engine.layout).snapshot, None, CPU)
    for image in (BAR, RING):
        category, score = offline.assign(image)
        told = await anomaly.score_image("parts", image)
        assert (told.category, told.score) == (category, score)
