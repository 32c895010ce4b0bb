"""How far to compress, over the wire, with a codec whose loss is known."""

import numpy as np
import pytest
from anomaly_codec import CLEAR_CRF, DATASET, FakeItem, open_codec, send
from anomaly_parts import draw_part, draw_parts

import mekiki
from services.anomaly import tuning
from services.anomaly.__main__ import OPENING
from services.anomaly.frame_files import FrameFiles
from services.anomaly.tuning import Tuner
from services.anomaly.tuning_messages import read_tuning
from services.runtime.errors import Cancelled, Unavailable
from tests.conftest import ROOT

ITEMS = [FakeItem(f"good-{n:02d}", send(part), group=f"part {n // 2}") for n, part in enumerate(draw_parts(24))]
ITEMS += [FakeItem("late-0", send(draw_part(900)))]  # appended after the data set was encoded: left out
ITEMS += [FakeItem(f"bad-{n}", send(draw_part(600 + n, defect=True)), "cross", "seen") for n in range(5)]
NORMALS = mekiki.ItemFilter(DATASET, splits=["train"], form=mekiki.ItemForm.PREPARED)
JUDGE = mekiki.Configuration("judge", NORMALS, mekiki.PatchEngine(input_side=96), "small")


@pytest.fixture
async def anomaly(serve, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    address = await serve([open_codec(ITEMS), OPENING], follow_ms=50)
    async with mekiki.AsyncClient(address) as client:
        yield client.anomaly


async def test_the_largest_harmless_rate_factor_is_found_and_nothing_is_kept(anomaly):
    operation = await anomaly.tune_compression(JUDGE, max_loss=0.02, min_crf=30, max_crf=36)
    tuned = await operation.result(timeout_s=200)
    assert tuned.crf == CLEAR_CRF
    points = {point.crf: point for point in tuned.points}
    assert list(points) == sorted(points)
    assert {30, CLEAR_CRF, CLEAR_CRF + 1, 36} <= points.keys()
    for crf, point in points.items():
        assert point.frame_bytes == 1000 - 10 * crf
        assert (point.loss == 0) == (crf <= CLEAR_CRF)  # the very same frames as without compression
        assert point.auroc == pytest.approx(tuned.prepared_auroc - point.loss)
        assert point.loss_interval[0] <= point.loss <= point.loss_interval[1]
    assert tuned.defect_strength >= 1
    assert tuned.normal_count == tuned.defect_count == 3 * 6  # a quarter of 24, for each of three seeds
    assert tuned.prepared_auroc >= 0.95 or tuned.defect_strength == 16
    assert 0 <= tuned.raw_auroc <= 1
    assert not await anomaly.list_detectors()


async def test_defects_may_be_given(anomaly):
    seen = mekiki.ItemFilter(DATASET, splits=["seen"])
    operation = await anomaly.tune_compression(JUDGE, defects=seen, min_crf=33, max_crf=34, max_loss=0.5)
    tuned = await operation.result(timeout_s=200)
    assert tuned.defect_strength == 0
    assert tuned.defect_count == 3 * 5
    assert tuned.crf == 34  # half may be lost


@pytest.mark.parametrize(
    ("judge", "options", "complaint"),
    [
        (mekiki.Configuration("j", mekiki.ItemFilter(DATASET)), {}, "judge.items.form: must be PREPARED"),
        (mekiki.Configuration("j", mekiki.ItemFilter("", form=mekiki.ItemForm.PREPARED)), {}, "judge.items.dataset"),
        (JUDGE, {"max_loss": 0.6}, "max_loss: must be 0 to 0.5, is 0.6"),
        (JUDGE, {"min_crf": 40, "max_crf": 30}, "min_crf: must be 0 to 30, is 40"),
        (JUDGE, {"max_crf": 64}, "max_crf: must be 0 to 63, is 64"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(anomaly, judge, options, complaint):
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        await anomaly.tune_compression(judge, **options)
    assert complaint in str(refused.value)


async def test_too_few_normals_are_told(anomaly):
    few = mekiki.ItemFilter(DATASET, item_ids=[f"good-{n:02d}" for n in range(9)], form=mekiki.ItemForm.PREPARED)
    operation = await anomaly.tune_compression(mekiki.Configuration("j", few, backbone="small"))
    with pytest.raises(mekiki.errors.FailedPrecondition, match=r"9 aligned normals .* at least 16"):
        await operation.result(timeout_s=100)


async def test_a_rate_factor_that_the_codec_has_not_is_refused_when_that_is_known(anomaly):
    operation = await anomaly.tune_compression(JUDGE, max_crf=52)
    with pytest.raises(mekiki.errors.InvalidArgument, match="max_crf: must be 0 to 51, is 52"):
        await operation.result(timeout_s=100)


class Notebook:
    """A job that keeps its checkpoint, and may be lost after so many."""

    def __init__(self, settings, checkpoint=None, lost_after=99):
        self.settings, self.checkpoint, self.left = settings, checkpoint, lost_after

    def report(self, *_, **__):
        pass

    def load_checkpoint(self):
        return self.checkpoint

    def save_checkpoint(self, data):
        self.checkpoint, self.left = data, self.left - 1
        if self.left == 0:
            raise Cancelled("the worker was lost")


async def test_a_lost_worker_is_gone_on_from_and_nothing_comes_out_otherwise(serve, monkeypatch, tmp_path):
    import asyncio

    from mekiki.anomaly.v1 import anomaly_pb2
    from services.anomaly.config import AnomalySettings

    address = await serve([open_codec(ITEMS)])
    settings = AnomalySettings(device="cpu")
    request = anomaly_pb2.TuneCompressionRequest(judge=JUDGE.to_proto(), min_crf=32, max_crf=35)
    read_tuning(request)

    def tune(job):
        with mekiki.Client(address) as codec:
            return Tuner(request, codec, job).tune()

    judged = []
    score = Tuner._score
    monkeypatch.setattr(Tuner, "_score", lambda self, *args, **kwargs: judged.append(1) or score(self, *args, **kwargs))
    whole = await asyncio.to_thread(tune, Notebook(settings))
    stages = len(judged)
    lost = Notebook(settings, lost_after=stages - 3)
    with pytest.raises(Cancelled):
        await asyncio.to_thread(tune, lost)
    judged.clear()
    resumed = await asyncio.to_thread(tune, Notebook(settings, lost.checkpoint))
    assert (resumed.crf, resumed.points, resumed.strength) == (whole.crf, whole.points, whole.strength)
    assert len(judged) == 3


def test_the_sample_is_bounded():
    assert tuning.SAMPLE <= 512  # what PreviewEncoding takes


def test_a_full_folder_is_told_without_its_name(tmp_path):
    files = FrameFiles(str(tmp_path / "gone"))
    with pytest.raises(Unavailable, match="no room for an image of 9 x 5 pixels") as told:
        files.put("a", np.zeros((5, 9), np.uint8))
    assert str(tmp_path) not in str(told.value)
