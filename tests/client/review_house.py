"""A review as people have it: a real codec, saliency and anomaly played in memory, the page on a free port."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

import mekiki
from mekiki.review.assignment import Assignment
from mekiki.review.desk import Desk
from mekiki.review.serve import HOST, make_server

TOKEN, ONCE = "a-token-for-tests", "a-token-for-once"
DATASET = "parts"
SIZE = (64, 48)  # width, height
FOUND = mekiki.Box(20, 16, 40, 32)


def draw_square(seed: int) -> np.ndarray:
    """A dark square somewhere on light ground."""
    random = np.random.default_rng(seed)
    pixels = random.integers(180, 220, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    pixels[16:32, 20:40] = 50
    return pixels


def draw_mask(box: mekiki.Box) -> np.ndarray:
    """The pixels of a box."""
    mask = np.zeros(SIZE[::-1], np.bool_)
    mask[box.y_min : box.y_max, box.x_min : box.x_max] = True
    return mask


def propose(score: float, box=(20, 16, 40, 32), label="nut", *, needs_review=False, name="") -> mekiki.Annotation:
    source = "boxfit/exact saliency/kinds@2"
    return mekiki.Annotation(mekiki.Box(*box), label, score, source, needs_review=needs_review, annotation_id=name)


@dataclass
class FakeAnomaly:
    """Judges as it is told, and remembers its normals."""

    scores: dict[str, float] = field(default_factory=dict)
    bank: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    async def get_detector(self, detector):
        return detector

    def judge(self, item_id):
        score = 0.0 if item_id in self.bank else self.scores.get(item_id, 0.2)
        anomalous = score > 1
        return mekiki.ScoredImage(
            score=score,
            verdict=mekiki.Verdict.ANOMALOUS if anomalous else mekiki.Verdict.NORMAL,
            threshold=1.0,
            heatmap=mekiki.Heatmap(np.linspace(0, score, 12, dtype=np.float32).reshape(3, 4)),
            region=mekiki.Box(4, 4, 24, 20) if anomalous else None,
            nearest_item_id="",
            model=mekiki.ModelRef("screws", 3, 1),
            aligned=True,
            image_width=SIZE[0],
            image_height=SIZE[1],
            p_value=0.01 if anomalous else 0.6,
            category="m6",
        )

    async def score_image(self, detector, image, *, heatmap_side=None):
        self.seen.append(image.item_id)
        return self.judge(image.item_id)

    async def score_images(self, detector, frames, *, heatmap_side=None):
        async for frame in frames:
            yield mekiki.Answer(frame.id, self.judge(frame.value.item_id), None)

    async def enroll_items(self, detector, items):
        new = [item for item in items if item.item_id not in self.bank]
        self.bank |= {item.item_id: item.category for item in items}
        return mekiki.Enrolment(7, len(new), len(items) - len(new))

    async def forget_items(self, detector, item_ids):
        gone = [self.bank.pop(item_id, None) for item_id in item_ids]
        return mekiki.Forgetting(8, sum(each is not None for each in gone))


@dataclass
class FakeSaliency:
    """Everything speaks for the left half, and nuts are square."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    segmented: list[str] = field(default_factory=list)
    sureness: dict[str, float] = field(default_factory=dict)
    box: mekiki.Box = FOUND

    async def get_classifier(self, classifier):
        return classifier

    async def explain_image(self, classifier, image, *, label="", heatmap_side=0):
        self.asked.append((classifier, label))
        heat = np.zeros((4, 4), np.float32)
        heat[:, :2] = 1
        return mekiki.Explanation(
            heatmap=mekiki.Heatmap(heat),
            label=label,
            score=1.0,
            labels=(),
            model=mekiki.ModelRef(classifier, 1),
            method=mekiki.ExplainMethod.CAM,
            image_width=SIZE[0],
            image_height=SIZE[1],
        )

    async def get_segmenter(self, segmenter):
        return SimpleNamespace(name=segmenter, labels=("nut",))

    async def segment_image(self, segmenter, image):
        self.segmented.append(image.item_id)
        mask = draw_mask(self.box)
        score = self.sureness.get(image.item_id, 0.75)
        found = (mekiki.Segment("nut", mask, self.box, int(mask.sum()), None, score),)
        return mekiki.Segmentation(found if mask.any() and score else (), mekiki.ModelRef(segmenter, 3), *SIZE)

    async def segment_images(self, segmenter, frames):
        async for frame in frames:
            item_id = frame.value.item_id
            if self.sureness.get(item_id, 0) is None:
                yield mekiki.Answer(item_id, None, mekiki.errors.NotFound("it is gone"))
            else:
                yield mekiki.Answer(item_id, await self.segment_image(segmenter, frame.value), None)


@dataclass
class House:
    """A client of the real codec with played neighbours."""

    codec: object
    saliency: FakeSaliency = field(default_factory=FakeSaliency)
    anomaly: FakeAnomaly = field(default_factory=FakeAnomaly)

    async def fill(self, items: dict[str, list[mekiki.Annotation]], labels=("nut",)) -> None:
        """Makes the data set: items by identifier, with what was proposed."""
        await self.codec.create_dataset(DATASET)
        new = [
            mekiki.NewItem(item_id, draw_square(number), labels=labels, annotations=boxes)
            for number, (item_id, boxes) in enumerate(items.items())
        ]
        answers = [answer async for answer in self.codec.append_items(DATASET, new)]
        assert [answer.error for answer in answers] == [None] * len(items)

    async def boxes(self, item_id: str) -> tuple[mekiki.Annotation, ...]:
        return (await self.codec.get_item(DATASET, item_id)).annotations

    async def drawn(self, item_id: str) -> np.ndarray | None:
        """What is kept in codec of an item's pixels: its mask (bool), its trimap (uint8) or nothing."""
        one = mekiki.ItemFilter(DATASET, item_ids=[item_id])
        (read,) = [each async for each in self.codec.read_items(one, metadata_only=True, with_masks=True)]
        return read.trimap if read.mask is None else read.mask

    async def states(self) -> dict[str, list[str]]:
        """What is kept in codec: the states of each item's boxes."""
        reads = self.codec.read_items(DATASET, metadata_only=True)
        return {read.item.item_id: [str(each.state) for each in read.item.annotations] async for read in reads}


@asynccontextmanager
async def reviewing(
    house: House, reviewer="ann", detector="", classifier="", limit=5000, segmenter=""
) -> AsyncIterator[str]:
    """Serves the page; gives its address without the token."""
    assignment = Assignment(mekiki.ItemFilter(DATASET), reviewer, classifier, detector, limit, segmenter)
    with socket.create_server((HOST, 0)) as listening:
        async with Desk(house, assignment) as desk:
            server = make_server(desk, TOKEN, ONCE)
            # Started by its parts: `serve` would take the signals of the tests' own process.
            running = asyncio.create_task(server._serve(sockets=[listening]))
            while not server.started:  # noqa: ASYNC110 -- uvicorn says it by no event
                await asyncio.sleep(0.005)
            yield f"http://{HOST}:{listening.getsockname()[1]}"
            server.should_exit = True
            await running
