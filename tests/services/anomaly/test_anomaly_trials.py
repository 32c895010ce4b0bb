"""Trials over the wire: configurations side by side, seed after seed, compared with what a kept detector says."""

import numpy as np
import pytest
from anomaly_codec import DATASET, FakeItem, open_codec, send
from anomaly_parts import draw_part, draw_parts

import mekiki
from services.anomaly.__main__ import OPENING
from tests.conftest import ROOT

ITEMS = [FakeItem(f"good-{number:02d}", send(part)) for number, part in enumerate(draw_parts(12))]
ITEMS += [FakeItem(f"test-good-{n}", send(draw_part(500 + n)), "good", "test") for n in range(4)]
ITEMS += [FakeItem(f"test-cross-{n}", send(draw_part(600 + n, defect=True)), "cross", "test") for n in range(4)]
NORMALS = mekiki.ItemFilter(DATASET, splits=["train"], form=mekiki.ItemForm.PREPARED)
TESTS = mekiki.ItemFilter(DATASET, splits=["test"])
PATCH = mekiki.PatchEngine(input_side=96)
METRIC = mekiki.MetricEngine(mekiki.MetricLoss.ARCFACE, 2, epochs=1, input_size=64)


@pytest.fixture
async def anomaly(serve, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    address = await serve([open_codec(ITEMS), OPENING], follow_ms=50)
    async with mekiki.AsyncClient(address) as client:
        yield client.anomaly


async def test_trials_measure_what_detectors_trained_with_their_seeds_would_and_keep_none(anomaly):
    configurations = [
        mekiki.Configuration("patches", NORMALS, PATCH, "small"),
        mekiki.Configuration("learned", NORMALS, METRIC, "small", seed=5),
    ]
    operation = await anomaly.run_trials(configurations, TESTS, trial_count=2)
    patches, learned = await operation.result(timeout_s=200)
    assert (await operation.progress()).done == 4
    assert (patches.name, learned.name) == ("patches", "learned")
    assert [trial.seed for trial in learned.trials] == [5, 6]
    assert learned.trials[0].train_s > 0
    assert not await anomaly.list_detectors()
    kept = await (await anomaly.train_detector("kept", NORMALS, engine=PATCH, backbone="small")).result(timeout_s=100)
    refs = [mekiki.ItemRef(DATASET, item.item_id, mekiki.ItemForm.PREPARED) for item in ITEMS[:12]]
    await anomaly.enroll_items(kept.reference, [mekiki.EnrolledItem(ref.item_id, ref) for ref in refs])
    evaluation = await (await anomaly.evaluate_detector("kept", TESTS)).result(timeout_s=100)
    assert patches.scores == evaluation.scores  # patches learn nothing: their median is each trial's score
    assert [trial.evaluation.image_auroc for trial in patches.trials] == [evaluation.image_auroc] * 2
    assert patches.median_auroc == evaluation.image_auroc


async def test_seeds_make_a_difference_where_something_is_learned_and_the_same_ones_none(anomaly):
    both = [mekiki.Configuration(name, NORMALS, METRIC, "small") for name in ("first", "second")]
    first, second = await (await anomaly.run_trials(both, TESTS, trial_count=2)).result(timeout_s=200)
    assert first.scores == second.scores
    alone = [mekiki.Configuration("alone", NORMALS, METRIC, "small", seed=1)]
    (last,) = await (await anomaly.run_trials(alone, TESTS, trial_count=1)).result(timeout_s=200)
    assert last.scores != first.scores
    assert np.isfinite([item.score for item in first.scores]).all()


@pytest.mark.parametrize(
    ("configurations", "items", "trials", "field"),
    [
        ([], TESTS, 1, "configurations"),
        ([mekiki.Configuration("a", NORMALS)] * 2, TESTS, 1, "configurations"),
        ([mekiki.Configuration("a", NORMALS)], TESTS, 101, "trial_count"),
        ([mekiki.Configuration("a", NORMALS)], mekiki.ItemFilter(""), 1, "items.dataset"),
        ([mekiki.Configuration("a@7", NORMALS)], TESTS, 1, "configurations[0].detector"),
        (
            [mekiki.Configuration("a", NORMALS), mekiki.Configuration("b", NORMALS, mekiki.PatchEngine(9))],
            TESTS,
            1,
            "configurations[1].patch.input_side",
        ),
    ],
)
async def test_a_bad_request_is_refused_naming_its_field(anomaly, configurations, items, trials, field):
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        await anomaly.run_trials(configurations, items, trial_count=trials)
    assert refused.value.field == field
