"""What a detector says of the items, gathered while people look, and asked for anew once it has learnt."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from mekiki import AsyncClient, Frame, ImageLike, ItemRef
from mekiki.review.messages import Json, write_verdict


class Judge:
    """Verdicts on items of a data set."""

    def __init__(self, client: AsyncClient, dataset: str, detector: str) -> None:
        self._client = client
        self._dataset = dataset
        self._detector = detector
        self._verdicts: list[Json] = []
        self.total = 0
        self.failure = ""

    def list_since(self, number: int) -> list[Json]:
        """The verdicts after the first `number`."""
        return self._verdicts[max(number, 0) :]

    async def judge_all(self, item_ids: Sequence[str]) -> None:
        """Judges items in order; one that cannot be judged says why."""
        self.total = len(item_ids)

        async def frames() -> AsyncIterator[Frame[ImageLike]]:
            for item_id in item_ids:
                yield Frame(ItemRef(self._dataset, item_id), item_id)

        answers = self._client.anomaly.score_images(self._detector, frames(), heatmap_side=0)
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


async def end(task: asyncio.Task[None]) -> None:
    """Cancels work beside the calls and waits until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
