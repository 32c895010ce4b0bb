"""A score is the same to the last bit wherever it is computed and whatever is computed meanwhile."""

import asyncio
import dataclasses

import cv2
import numpy as np
import pytest
from anomaly_codec import open_codec
from anomaly_parts import CPU, SILENT, draw_part, draw_parts, enroll_parts

import mekiki
from services.anomaly.__main__ import OPENING
from services.anomaly.catalogue import Catalogue
from services.anomaly.entries import About
from services.anomaly.frames import Framing
from services.anomaly.training import MetricOptions, PadimOptions, PatchOptions, Plan, save_model, train_model
from services.runtime.store import Store

MOST_AT_ONCE = 32
FEW = (1, 2, 7, MOST_AT_ONCE)
ENGINES = {
    "patch": PatchOptions(64),
    "place": PatchOptions(64, same_place=True),
    "padim": PadimOptions(64, 20),
    "metric": MetricOptions("original", "arcface", 2, epochs=1, input_side_px=64),
    "metric patches": MetricOptions("patches", "arcface", 2, epochs=1, input_side_px=64),
}
NORMALS = draw_parts(8)


def draw_mixture():
    """Images of every size and type that there is: wide, high, large, small, grey, colour, with alpha, of 16 bits."""
    parts = [draw_part(500 + number, defect=number % 2 > 0) for number in range(7)]
    return [
        parts[0],
        cv2.resize(parts[1], (300, 90)),
        cv2.resize(parts[2], (70, 260)),
        cv2.cvtColor(cv2.resize(parts[3], (500, 400)), cv2.COLOR_GRAY2RGB),
        cv2.cvtColor(parts[4], cv2.COLOR_GRAY2RGBA),
        parts[5].astype(np.uint16) * 257,
        cv2.resize(parts[6], (33, 40)),
    ]


MIXTURE = draw_mixture()


@pytest.fixture(scope="module", params=ENGINES)
def offline(request):
    """A detector on a network of timm, as it is made, so that no weights are needed."""
    backbone = "small" if request.param.startswith("metric") else "mobilenetv2_100"
    plan = Plan(ENGINES[request.param], backbone)
    return enroll_parts(train_model(plan, NORMALS, Framing(), None, CPU, SILENT), NORMALS)


@pytest.fixture
def stored(offline, tmp_path):
    """The store of a house that has the detector, its bank still empty."""
    catalogue = Catalogue.open(Store.open(f"file://{tmp_path / 'store'}").prefixed("anomaly"))
    plan, created = offline.model.plan, "2026-11-21T07:00:00+00:00"
    about = About(plan.engine, dataclasses.asdict(plan.options), plan.backbone, "none", "drawn", "parts", "", created)
    catalogue.add("bits", about, save_model(offline.model), "op-1")


@pytest.fixture
async def start(serve, stored):
    async def start():
        return await serve([open_codec([]), OPENING], threads=3)

    return start


async def enroll(anomaly):
    await anomaly.enroll_items("bits", [mekiki.EnrolledItem(str(number), part) for number, part in enumerate(NORMALS)])


async def test_a_served_score_is_the_offline_score_whatever_else_is_judged_meanwhile(offline, start):
    expected = [offline.measure(image) for image in MIXTURE]
    assert len(set(expected)) == len(expected)
    async with mekiki.AsyncClient(await start()) as client:
        await enroll(client.anomaly)
        every = offline.model.engine.layout.arrangement == "flat"  # of the others a few will do
        for size in range(1, MOST_AT_ONCE + 1) if every else FEW:
            chosen = [(size + place) % len(MIXTURE) for place in range(size)]
            asked = (client.anomaly.score_image("bits", MIXTURE[number], heatmap_side=0) for number in chosen)
            assert [answer.score for answer in await asyncio.gather(*asked)] == [expected[number] for number in chosen]


async def test_a_restarted_service_scores_as_before(offline, start):
    expected = [offline.measure(image) for image in MIXTURE]
    async with mekiki.AsyncClient(await start()) as client:
        await enroll(client.anomaly)
        before = [answer.value.score async for answer in client.anomaly.score_images("bits", MIXTURE)]
    async with mekiki.AsyncClient(await start()) as client:
        after = [answer.value.score async for answer in client.anomaly.score_images("bits", MIXTURE)]
    assert before == after == expected
