"""A real server on a free port, with a codec that holds drawn parts in memory."""

import asyncio

import numpy as np
import pytest
from anomaly_codec import DATASET, ENCODING, SENT_SHAPE, FakeItem, open_codec, prepare, send
from anomaly_house import FakeJob, calibrate, tell_about
from anomaly_parts import CPU, QUICK, draw_part, draw_parts
from prometheus_client import REGISTRY

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.__main__ import OPENING
from services.anomaly.bank import Bank
from services.anomaly.catalogue import Catalogue
from services.anomaly.compaction import Sizes
from services.anomaly.entries import Reference
from services.anomaly.job import calibrate_detector, evaluate_detector, train_detector
from services.anomaly.model import Detector
from services.anomaly.segment_file import read_segment
from services.anomaly.shelf import to_standards
from services.anomaly.training import load_model, save_model
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.weights import Weights
from tests.conftest import ROOT

NORMALS = [FakeItem(f"good-{number:02d}", send(part)) for number, part in enumerate(draw_parts(24))]
TEST = [FakeItem(f"test-good-{n}", send(draw_part(500 + n)), "good", "test") for n in range(6)]
CROSS = np.zeros(SENT_SHAPE, dtype=np.bool_)
CROSS[56:80, 128:152] = True  # frame (60, 30)
TEST += [
    FakeItem(f"test-cross-{n}", send(draw_part(600 + n, defect=True)), "cross", "test", mask=CROSS if n < 5 else None)
    for n in range(6)
]
PARTS = {"dataset": DATASET}
PREPARED = mekiki.ItemForm.PREPARED
GOOD, BAD = TEST[0].pixels, TEST[6].pixels


@pytest.fixture
async def address(serve, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return await serve([open_codec([*NORMALS, *TEST]), OPENING], follow_ms=50)


@pytest.fixture
async def client(address):
    async with mekiki.AsyncClient(address) as client:
        yield client


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue.open(Store.open(f"file://{tmp_path / 'store'}").prefixed("anomaly"))


def enroll_as_prepared(items):
    return [mekiki.EnrolledItem(item.item_id, mekiki.ItemRef(DATASET, item.item_id, PREPARED)) for item in items]


@pytest.fixture
async def prepared(catalogue, prepared_model, client):
    """A server whose detector "parts" judges prepared images and has 16 normals."""
    catalogue.add("parts", tell_about(QUICK, ENCODING), save_model(prepared_model), "op-1")
    await client.anomaly.enroll_items("parts", enroll_as_prepared(NORMALS[:16]))
    return client.anomaly


@pytest.fixture
async def raw(catalogue, raw_model, client):
    """A server whose detector "raw" judges images as sent and has 8 normals."""
    catalogue.add("raw", tell_about(QUICK), save_model(raw_model), "op-2")
    items = [mekiki.EnrolledItem(item.item_id, item.pixels) for item in NORMALS[:8]]
    await client.anomaly.enroll_items("raw", items)
    return client.anomaly


def open_offline(catalogue, name):
    entry = catalogue.read().find(Reference(name))
    model = load_model(catalogue.load_model(entry), CPU)
    return Detector(model, catalogue.open_bank(entry, model.engine.layout).snapshot, to_standards(entry, {}), CPU)


async def test_a_detector_is_trained_enrolled_calibrated_evaluated_and_judges_over_the_wire(client):
    items = mekiki.ItemFilter(DATASET, splits=["train"], form=PREPARED)
    training = await client.anomaly.train_detector(
        "parts",
        items,
        engine=mekiki.MetricEngine(
            mekiki.MetricLoss.ARCFACE, 2, epochs=2, input_size=64, recipe=mekiki.MetricRecipe.ORIGINAL
        ),
        backbone="small",
    )
    made = await training.result(timeout_s=200)
    assert (made.name, made.version, made.encoding_id, made.enrolled_count) == ("parts", 1, ENCODING, 0)
    assert (made.engine.loss, made.engine.class_count, made.weights.source) == ("arcface", 2, "none")
    assert (await client.anomaly.enroll_items("parts", enroll_as_prepared(NORMALS))).enrolled_count == 24
    assert (await client.anomaly.score_image("parts", BAD)).verdict is None
    calibration = await client.anomaly.calibrate_detector("parts", items, false_alarm_rate=0.2, confidence=0.9)
    threshold = (await calibration.result(timeout_s=120)).threshold
    assert (threshold.normal_count, threshold.false_alarm_rate, threshold.confidence) == (24, 0.2, 0.9)
    verdict = await client.anomaly.score_image("parts", BAD)
    assert verdict.threshold == threshold.value
    assert verdict.verdict == ("anomalous" if verdict.score > threshold.value else "normal")
    evaluation = await client.anomaly.evaluate_detector("parts", mekiki.ItemFilter(DATASET, splits=["test"]))
    figures = await evaluation.result(timeout_s=120)
    assert len(figures.scores) == 12
    assert {score.item_id: score.score for score in figures.scores}["test-cross-0"] == verdict.score


@pytest.mark.parametrize(("form", "asked", "expected"), [(1, None, False), (2, None, True), (1, True, True)])
async def test_prepared_images_are_compared_place_by_place_and_others_on_request(client, job, form, asked, expected):
    request = anomaly_pb2.TrainDetectorRequest(
        detector="parts",
        items=types_pb2.ItemFilter(dataset=DATASET, splits=["train"], form=form),
        patch=anomaly_pb2.PatchEngine(input_side=64, same_place=asked),
        backbone="small",
    )
    made = (await asyncio.to_thread(train_detector, request, job)).detector
    assert made.patch.same_place is expected
    assert (await client.anomaly.get_detector("parts")).engine.same_place is expected


async def test_gaussians_are_trained_calibrated_and_served_as_they_score_offline(client, catalogue, job):
    request = anomaly_pb2.TrainDetectorRequest(
        detector="parts",
        items=types_pb2.ItemFilter(dataset=DATASET, splits=["train"], form=types_pb2.ITEM_FORM_PREPARED),
        padim=anomaly_pb2.PadimEngine(input_side=192, dimension=20),
        backbone="small",
    )
    made = (await asyncio.to_thread(train_detector, request, job)).detector
    assert (made.padim.input_side, made.padim.dimension, made.WhichOneof("engine")) == (192, 20, "padim")
    await client.anomaly.enroll_items("parts", enroll_as_prepared(NORMALS))
    assert (await client.anomaly.get_detector("parts")).engine == mekiki.PadimEngine(192, 20)
    calibration = anomaly_pb2.CalibrateDetectorRequest(
        detector="parts", items=request.items, false_alarm_rate=0.2, confidence=0.9
    )
    scores = (await asyncio.to_thread(calibrate_detector, calibration, job)).categories[0].scores
    offline = open_offline(catalogue, "parts")
    for image, is_bad in ((GOOD, False), (BAD, True)):
        served = await client.anomaly.score_image("parts", image)
        assert served.score == offline.measure(prepare(image))
        assert served.is_anomalous == is_bad
        assert (served.score > max(scores)) == is_bad


async def test_a_served_score_is_the_offline_score_to_the_bit(prepared, catalogue):
    offline = open_offline(catalogue, "parts")
    served = [answer.value async for answer in prepared.score_images("parts", [item.pixels for item in TEST])]
    for item, answer in zip(TEST, served, strict=True):
        expected = offline.score_image(prepare(item.pixels), heatmap_side=0)
        assert (answer.score, answer.nearest_item_id) == (expected.score, expected.nearest_item)
        assert answer.model == mekiki.ModelRef("parts", 1, offline.normals.version)


async def test_many_callers_at_once_each_get_their_own_answer(raw, catalogue):
    offline = open_offline(catalogue, "raw")
    sides = [(0, 40, 60)[number % 3] for number in range(len(TEST))]
    asked = [raw.score_image("raw", item.pixels, heatmap_side=side) for item, side in zip(TEST, sides, strict=True)]
    for item, side, answer in zip(TEST, sides, await asyncio.gather(*asked), strict=True):
        expected = offline.score_image(item.pixels, heatmap_side=side)
        assert answer.score == expected.score
        if side:
            assert (answer.heatmap.values == expected.heatmap).all()


async def test_the_heat_lies_on_the_defect_in_the_pixels_of_the_image_as_sent(prepared):
    answer = await prepared.score_image("parts", BAD, heatmap_side=240)
    assert (answer.image_height, answer.image_width) == SENT_SHAPE
    assert answer.heatmap.values.shape == SENT_SHAPE
    y, x = np.unravel_index(answer.heatmap.values.argmax(), SENT_SHAPE)
    assert (abs(x - 140) <= 24, abs(y - 68) <= 24) == (True, True)  # frame (60, 30)


async def test_no_heat_map_is_sent_where_none_was_asked_for(prepared):
    assert (await prepared.score_image("parts", BAD, heatmap_side=0)).heatmap is None
    assert max((await prepared.score_image("parts", BAD)).heatmap.values.shape) == 256


async def test_an_image_that_does_not_align_says_so(prepared):
    assert (await prepared.score_image("parts", BAD)).aligned
    assert not (await prepared.score_image("parts", np.zeros(SENT_SHAPE, np.uint8))).aligned


async def test_stored_items_are_judged_without_being_sent(prepared):
    sent = await prepared.score_image("parts", TEST[0].pixels)
    stored = await prepared.score_image("parts", mekiki.ItemRef(DATASET, "test-good-0"))
    ready = await prepared.score_image("parts", mekiki.ItemRef(DATASET, "test-good-0", PREPARED))
    assert sent.score == stored.score == ready.score
    with pytest.raises(mekiki.errors.NotFound):
        await prepared.score_image("parts", mekiki.ItemRef(DATASET, "nobody", PREPARED))


async def test_enrolling_and_forgetting_work_online_and_are_idempotent(raw):
    before = await raw.score_image("raw", BAD)
    first = await raw.enroll_items("raw", [mekiki.EnrolledItem("like it", BAD)])
    assert (first.enrolled_count, first.duplicate_count) == (1, 0)
    after = await raw.score_image("raw", BAD, heatmap_side=0)
    assert after.score < before.score
    assert (after.nearest_item_id, after.model.bank_version) == ("like it", first.bank_version)
    again = await raw.enroll_items("raw", [mekiki.EnrolledItem("like it", GOOD)])
    assert (again.enrolled_count, again.duplicate_count, again.bank_version) == (0, 1, first.bank_version)
    gone = await raw.forget_items("raw", ["like it", "nobody"])
    assert gone.forgotten_count == 1
    back = await raw.score_image("raw", BAD)
    assert (back.score, back.nearest_item_id) == (before.score, before.nearest_item_id)
    detector = await raw.get_detector("raw")
    assert (detector.enrolled_count, detector.bank_version) == (8, gone.bank_version)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("services.anomaly.compactor.EVERY_S", 0.05)


async def test_forgotten_vectors_leave_the_store_without_being_asked(impatient, raw, catalogue):
    bank = catalogue.store.prefixed(f"{catalogue.read().find(Reference('raw')).folder}/bank")
    log = ManifestLog(bank, "log")
    await raw.forget_items("raw", ["good-03"])
    async with asyncio.timeout(60):
        while log.latest().body["forgotten"]:
            await raw.get_detector("raw")
    stored = [read_segment(bank.get(each["key"]), each["sha256"])[0] for each in log.latest().body["segments"]]
    assert sum(len(rows.vectors) for rows in stored) == 7 * 576
    assert (await raw.get_detector("raw")).vector_count == 7 * 576
    assert (await raw.score_image("raw", NORMALS[3].pixels)).score > 0


async def test_a_bank_that_is_searched_by_lists_says_so_and_scores_as_offline(raw, catalogue):
    described = await raw.get_detector("raw")
    assert (described.bank_index, described.bank_recall) == (mekiki.BankIndex.EXACT, 1)
    store = catalogue.store.prefixed(f"{catalogue.read().find(Reference('raw')).folder}/bank")
    layout = open_offline(catalogue, "raw").model.engine.layout
    assert Bank(store, ManifestLog(store, "log"), layout, sizes=Sizes(indexed_rows=1000)).compact()
    described = await raw.get_detector("raw")
    assert described.bank_index == mekiki.BankIndex.LISTS
    assert 0.99 <= described.bank_recall <= 1
    async with asyncio.timeout(60):
        while (served := await raw.score_image("raw", BAD)).model.bank_version != described.bank_version:
            pass
    assert served.score == open_offline(catalogue, "raw").score_image(BAD).score


async def test_what_another_replica_enrolls_is_followed(raw, catalogue):
    entry = catalogue.read().find(Reference("raw"))
    offline = open_offline(catalogue, "raw")
    elsewhere = catalogue.open_bank(entry, offline.model.engine.layout)
    elsewhere.enroll([("from elsewhere", "", offline.contribute_item(BAD))])
    async with asyncio.timeout(60):
        while (await raw.score_image("raw", BAD)).nearest_item_id != "from elsewhere":
            pass


async def test_a_bad_frame_answers_its_own_error_and_the_stream_goes_on(prepared):
    images = [GOOD, b"no image at all", np.zeros((5, 5), np.uint8), BAD]
    answers = [answer async for answer in prepared.score_images("parts", images)]
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert answers[1].error.field == "image.encoded"
    assert "knows only" in answers[2].error.message  # the codec's own words


async def test_detectors_are_described_listed_and_deleted(raw, catalogue, raw_model):
    for name in ("a", "z"):
        catalogue.add(name, tell_about(QUICK), save_model(raw_model), f"op-{name}")
    assert [detector.name for detector in await raw.list_detectors()] == ["a", "raw", "z"]
    described = await raw.get_detector("raw")
    assert (described.engine.input_side, described.engine.coreset_fraction) == (192, 1.0)
    assert described.vector_count == 8 * 576  # 24 x 24 cells
    assert described.threshold is None
    await raw.delete_detector("raw")
    for call in (raw.get_detector("raw"), raw.score_image("raw", GOOD), raw.delete_detector("raw")):
        with pytest.raises(mekiki.errors.NotFound):
            await call
    assert catalogue.store.list("versions/raw") == []


async def test_a_detector_that_is_not_ready_says_what_is_missing(client, catalogue, raw_model):
    catalogue.announce("soon")
    with pytest.raises(mekiki.errors.FailedPrecondition) as untrained:
        await client.anomaly.score_image("soon", GOOD)
    assert untrained.value.reason == "DETECTOR_UNTRAINED"
    catalogue.add("soon", tell_about(QUICK), save_model(raw_model), "op")
    for call in (
        client.anomaly.score_image("soon", GOOD),
        client.anomaly.calibrate_detector("soon", DATASET),
        client.anomaly.evaluate_detector("soon", DATASET),
    ):
        with pytest.raises(mekiki.errors.FailedPrecondition) as empty:
            await call
        assert empty.value.reason == "BANK_EMPTY"


@pytest.fixture
async def retrained(raw, catalogue, raw_model):
    """The same with a second version, which has one normal and does not serve."""
    catalogue.add("raw", tell_about(QUICK), save_model(raw_model), "op-3")
    await raw.enroll_items("raw@2", [mekiki.EnrolledItem("first", GOOD)])
    return raw


async def find_serving(anomaly):
    version = (await anomaly.score_image("raw", GOOD)).model.version
    assert (await anomaly.get_detector("raw")).version == version
    return version


async def test_a_new_version_serves_only_once_promoted_and_both_answer_by_name(retrained):
    assert await find_serving(retrained) == 1
    answer = await retrained.score_image("raw@2", GOOD)
    assert (answer.model.version, answer.nearest_item_id) == (2, "first")
    assert (await retrained.promote_detector("raw@2")).serving
    assert await find_serving(retrained) == 2
    assert (await retrained.score_image("raw@1", GOOD)).model.version == 1
    assert not (await retrained.get_detector("raw@1")).serving


async def test_the_version_that_served_before_comes_back(retrained):
    await retrained.promote_detector("raw@2")
    await retrained.promote_detector("raw@2")  # done again it changes nothing
    assert (await retrained.rollback_detector("raw")).reference == "raw@1"
    assert await find_serving(retrained) == 1
    with pytest.raises(mekiki.errors.FailedPrecondition) as first:
        await retrained.rollback_detector("raw")
    assert first.value.reason == "NO_EARLIER_VERSION"
    with pytest.raises(mekiki.errors.NotFound):
        await retrained.rollback_detector("nobody")


async def test_a_version_that_a_line_could_not_go_on_with_is_not_promoted(retrained, catalogue, raw_model):
    catalogue.add("raw", tell_about(QUICK), save_model(raw_model), "op-4")
    calibrate(catalogue, "raw", 1.0)
    for version, reason in ((3, "BANK_EMPTY"), (2, "DETECTOR_UNCALIBRATED")):
        with pytest.raises(mekiki.errors.FailedPrecondition) as refusal:
            await retrained.promote_detector(f"raw@{version}")
        assert refusal.value.reason == reason
    with pytest.raises(mekiki.errors.NotFound):
        await retrained.promote_detector("raw@4")
    assert await find_serving(retrained) == 1


async def test_one_version_is_deleted_unless_it_serves(retrained, catalogue):
    with pytest.raises(mekiki.errors.FailedPrecondition) as refusal:
        await retrained.delete_detector("raw@1")
    assert refusal.value.reason == "DETECTOR_SERVES"
    await retrained.promote_detector("raw@2")
    gone = catalogue.read().find(Reference("raw", 1))
    await retrained.delete_detector("raw@1")
    assert catalogue.store.list(gone.folder) == []
    assert [each.reference for each in await retrained.list_detectors(all_versions=True)] == ["raw@2"]
    with pytest.raises(mekiki.errors.FailedPrecondition):
        await retrained.rollback_detector("raw")  # what served before is gone
    with pytest.raises(mekiki.errors.NotFound):
        await retrained.score_image("raw@1", GOOD)


async def test_all_versions_are_listed_page_by_page(retrained, catalogue, raw_model):
    catalogue.add("another", tell_about(QUICK), save_model(raw_model), "op-5")
    found, token = [], ""
    while True:
        request = anomaly_pb2.ListDetectorsRequest(page_size=1, all_versions=True, page_token=token)
        page = await retrained._funnel.unary(retrained._stub.ListDetectors, request, None)
        found += [(each.name, each.version, each.serving) for each in page.detectors]
        token = page.next_page_token
        if not token:
            break
    assert found == [("another", 1, True), ("raw", 1, True), ("raw", 2, False)]
    assert [each.reference for each in await retrained.list_detectors()] == ["another@1", "raw@1"]


async def test_long_work_is_done_on_the_version_that_was_meant_when_it_was_asked_for(retrained):
    operation = await retrained.calibrate_detector("raw", DATASET, false_alarm_rate=0.2, confidence=0.9)
    await retrained.promote_detector("raw@2")
    await operation.result(timeout_s=120)
    assert (await retrained.get_detector("raw@1")).threshold
    assert (await retrained.get_detector("raw@2")).threshold is None


async def test_a_score_comes_with_its_place_among_the_normals(raw, catalogue):
    before = await raw.score_image("raw", GOOD)
    assert (before.p_value, before.verdict, (await raw.get_detector("raw")).drift) == (None, None, None)
    calibrate(catalogue, "raw", before.score + 1, [0, before.score, before.score + 1])
    after = await raw.score_image("raw", GOOD)
    assert (after.verdict, after.p_value) == ("normal", 0.75)
    calibrate(catalogue, "raw", before.score + 2, [0, 0, 0, 0])
    async with asyncio.timeout(60):
        while (again := await raw.score_image("raw", GOOD)).threshold == after.threshold:
            pass
    assert (again.threshold, again.p_value) == (before.score + 2, 0.2)


async def test_drift_since_the_calibration_is_told(raw, catalogue):
    normal = (await raw.score_image("raw", GOOD)).score
    calibrate(catalogue, "raw", 2 * normal, np.linspace(0.1, 0.5, 200) * normal)
    async for _ in raw.score_images("raw", [GOOD] * 40, heatmap_side=0):
        pass
    drift = (await raw.get_detector("raw")).drift
    assert (drift.image_count, drift.drifted, drift.error) == (40, True, 0.01)
    assert drift.evidence > 100
    (shown,) = [metric for metric in REGISTRY.collect() if metric.name == "mekiki_drifted"]
    assert {sample.labels["detector"]: sample.value for sample in shown.samples}["raw"] == 1
    calibrate(catalogue, "raw", 3 * normal, np.linspace(0.1, 2, 200) * normal)
    async with asyncio.timeout(60):
        while (await raw.score_image("raw", GOOD)).threshold != 3 * normal:
            pass
    assert not (await raw.get_detector("raw")).drift.drifted


async def test_lost_scores_of_a_calibration_do_not_stop_a_line(raw, catalogue):
    calibrate(catalogue, "raw", 1e6)
    entry = catalogue.read().find(Reference("raw"))
    catalogue.store.delete(f"{entry.folder}/{entry.calibration.scores_key}")
    answer = await raw.score_image("raw", GOOD)
    assert (answer.verdict, answer.p_value) == ("normal", None)


BAD_REQUESTS = [
    ("TrainDetector", {"detector": ".hidden", "items": {"dataset": DATASET}}, "detector"),
    ("TrainDetector", {"detector": "x"}, "items.dataset"),
    ("TrainDetector", {"detector": "x", "items": PARTS, "backbone": "no_such_net"}, "backbone"),
    (
        "TrainDetector",
        {"detector": "x", "items": PARTS, "patch": {"input_side": 63}},
        "patch.input_side",
    ),
    (
        "TrainDetector",
        {"detector": "x", "items": PARTS, "patch": {"coreset_fraction": 0}},
        "patch.coreset_fraction",
    ),
    (
        "TrainDetector",
        {"detector": "x", "items": PARTS, "metric": {"class_count": 2}},
        "metric.class_count",
    ),
    ("TrainDetector", {"detector": "x", "items": PARTS, "metric": {"epochs": 0}}, "metric.epochs"),
    ("TrainDetector", {"detector": "x", "items": PARTS, "metric": {"recipe": 9}}, "metric.recipe"),
    (
        "TrainDetector",
        {"detector": "x", "items": PARTS, "metric": {"input_size": 100}},
        "metric.input_size",
    ),
    ("TrainDetector", {"detector": "x", "items": PARTS, "padim": {"input_side": 1025}}, "padim.input_side"),
    ("TrainDetector", {"detector": "x", "items": PARTS, "padim": {"dimension": 0}}, "padim.dimension"),
    ("EnrollItems", {"detector": "raw"}, "items"),
    ("EnrollItems", {"detector": "raw", "items": [{"item_id": ""}]}, "items[0].item_id"),
    ("EnrollItems", {"detector": "raw", "items": [{"item_id": "a"}] * 2}, "items"),
    ("EnrollItems", {"detector": "raw", "items": [{"item_id": "a"}]}, "items[a].image"),
    ("EnrollItems", {"detector": "raw", "items": [{"item_id": "a", "category": "M6 bolt"}]}, "items[0].category"),
    ("ForgetItems", {"detector": "raw", "item_ids": ["a\n"]}, "item_ids[0]"),
    ("CalibrateDetector", {"detector": "raw", "items": {"dataset": DATASET}, "confidence": 1.0}, "confidence"),
    ("CalibrateDetector", {"detector": "raw"}, "items.dataset"),
    ("ScoreImage", {"detector": "raw", "heatmap_side": 4097}, "heatmap_side"),
    ("ScoreImage", {"detector": "raw", "category": "-"}, "category"),
    ("ListDetectors", {"page_size": 1001}, "page_size"),
    ("ListDetectors", {"page_token": "raw"}, "page_token"),
    ("PromoteDetector", {"detector": "raw"}, "detector"),
    ("PromoteDetector", {"detector": "raw@0"}, "detector"),
    ("RollbackDetector", {"detector": "raw@1"}, "detector"),
    ("ScoreImage", {"detector": "raw@1@2"}, "detector"),
    ("TrainDetector", {"detector": "raw@1", "items": PARTS}, "detector"),
]


@pytest.mark.parametrize(("verb", "fields", "field"), BAD_REQUESTS)
async def test_a_bad_request_is_refused_naming_its_field(raw, verb, fields, field):
    request = getattr(anomaly_pb2, f"{verb}Request")(**fields)
    with pytest.raises(mekiki.errors.InvalidArgument) as refusal:
        await raw._funnel.unary(getattr(raw._stub, verb), request, None)
    assert refusal.value.field == field


# --- the work of the operations, in this process


@pytest.fixture
def job(address, catalogue):
    return FakeJob(address, catalogue.store)


async def test_a_training_that_is_done_again_makes_no_second_version(job, catalogue):
    request = anomaly_pb2.TrainDetectorRequest(
        detector="again",
        items=types_pb2.ItemFilter(dataset=DATASET, splits=["train"]),
        metric=anomaly_pb2.MetricEngine(epochs=1, input_size=32),
        backbone="small",
    )
    first = await asyncio.to_thread(train_detector, request, job)
    second = await asyncio.to_thread(train_detector, request, job)
    assert first.detector.version == second.detector.version == 1
    assert ("training", 1, 1) in job.phases


async def test_training_on_nothing_is_refused(job, monkeypatch, tmp_path):
    items = types_pb2.ItemFilter(dataset=DATASET, splits=["nowhere"])
    weights = Weights(tmp_path / "not read", "directory")
    monkeypatch.setattr("services.anomaly.learning.find_weights", lambda *_, **__: weights)
    for backbone in ("small", "mobilenetv2_100"):  # one that learns from the items, and one that does not
        request = anomaly_pb2.TrainDetectorRequest(detector="x", items=items, backbone=backbone)
        with pytest.raises(InvalidArgument, match="selects 0"):
            await asyncio.to_thread(train_detector, request, job)


async def test_calibration_never_compares_an_enrolled_item_with_its_own_fold(prepared, job, catalogue):
    request = anomaly_pb2.CalibrateDetectorRequest(
        detector="parts",
        items=types_pb2.ItemFilter(dataset=DATASET, splits=["train"]),
        false_alarm_rate=0.2,
        confidence=0.9,
    )
    (found,) = (await asyncio.to_thread(calibrate_detector, request, job)).categories
    assert len(found.scores) == 24
    assert found.scores[0] > 0  # against itself an enrolled item scores exactly 0
    assert list(found.scores) == sorted(found.scores)
    assert found.threshold.value in found.scores
    assert (await prepared.get_detector("parts")).threshold.value == found.threshold.value
    assert (await prepared.score_image("parts", BAD)).verdict == "anomalous"


async def test_too_few_normals_are_refused_before_anything_is_scored(prepared, job):
    items = types_pb2.ItemFilter(dataset=DATASET, splits=["train"])
    request = anomaly_pb2.CalibrateDetectorRequest(detector="parts", items=items)
    with pytest.raises(FailedPrecondition, match="needs 299 normal images, got 24"):
        await asyncio.to_thread(calibrate_detector, request, job)
    assert job.phases == []


async def test_an_evaluation_reports_what_the_scores_say(prepared, job):
    items = types_pb2.ItemFilter(dataset=DATASET, splits=["test"])
    request = anomaly_pb2.EvaluateDetectorRequest(detector="parts", items=items)
    response = await asyncio.to_thread(evaluate_detector, request, job)
    assert response.image_auroc > 0.95
    assert not response.HasField("misses")
    assert [label.label for label in response.labels] == ["cross", "good"]
    assert response.pixels.item_count == 11  # one cross has no mask
    assert response.pixels.auroc > 0.95
    assert 0.6 < response.pixels.pro <= 1
    assert [label.HasField("pixels") for label in response.labels] == [True, False]
    assert response.labels[0].pixels == response.pixels  # the only kind of defect
    assert [control.name for control in response.shortcuts] == ["brightness", "background"]
    assert not response.shortcuts[1].flatters
    served = await prepared.score_image("parts", mekiki.ItemRef(DATASET, "test-cross-3"))
    assert {score.item_id: score.score for score in response.scores}["test-cross-3"] == served.score
