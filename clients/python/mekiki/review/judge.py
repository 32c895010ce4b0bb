"""What a detector or a segmenter says of the items, gathered while people look."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from mekiki import AsyncClient, Frame, ImageLike, ItemRef, Segment, Segmentation
from mekiki.review.messages import Json, write_verdict


class Verdicts:
    """What is said of items of a data set, as it comes."""

    def __init__(self, client: AsyncClient, dataset: str) -> None:
        self._client = client
        self._dataset = dataset
        self._verdicts: list[Json] = []
        self.total = 0
        self.failure = ""

    def list_since(self, number: int) -> list[Json]:
        """The verdicts after the first `number`."""
        return self._verdicts[max(number, 0) :]

    async def _show(self, item_ids: Sequence[str]) -> AsyncIterator[Frame[ImageLike]]:
        for item_id in item_ids:
            yield Frame(ItemRef(self._dataset, item_id), item_id)


class Judge(Verdicts):
    """Verdicts of a detector; it is asked for one anew once it has learnt."""

    def __init__(self, client: AsyncClient, dataset: str, detector: str) -> None:
        super().__init__(client, dataset)
        self._detector = detector

    async def judge_all(self, item_ids: Sequence[str]) -> None:
        """Judges items in order; one that cannot be judged says why."""
        self.total = len(item_ids)
        answers = self._client.anomaly.score_images(self._detector, self._show(item_ids), heatmap_side=0)
        async with aclosing(answers):
            async for answer in answers:
                if answer.error is not None:
                    self._verdicts.append({"item_id": answer.id, "error": answer.error.message})
                else:
                    self._verdicts.append(write_verdict(answer.id, answer.value))

    async def judge_again(self, item_id: str) -> Json:
        """Judges one item with what the detector knows now."""
        return write_verdict(
            item_id,
            await self._client.anomaly.score_image(self._detector, ItemRef(self._dataset, item_id), heatmap_side=0),
        )


class Finder(Verdicts):
    """How sure a segmenter is of what it finds."""

    def __init__(self, client: AsyncClient, dataset: str, segmenter: str) -> None:
        super().__init__(client, dataset)
        self._segmenter = segmenter

    async def find_all(self, labels: Mapping[str, str]) -> None:
        """Looks for the label of each item, by identifier, in order; one that cannot be looked at says why."""
        self.total = len(labels)
        answers = self._client.saliency.segment_images(self._segmenter, self._show(list(labels)))
        async with aclosing(answers):
            async for answer in answers:
                if answer.error is not None:
                    self._verdicts.append({"item_id": answer.id, "error": answer.error.message})
                else:
                    found = find_segment(answer.value, labels[answer.id])
                    self._verdicts.append({"item_id": answer.id, "found": found.score if found else 0.0})


def find_segment(told: Segmentation, label: str) -> Segment | None:
    """The pixels of a label; None where a segmenter finds none."""
    return next((segment for segment in told.segments if segment.label == label), None)


async def end(task: asyncio.Task[None]) -> None:
    """Cancels work beside the calls and waits until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
