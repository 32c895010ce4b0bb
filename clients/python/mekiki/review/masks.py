"""What of an item's pixels is known: by what a person drew, and by what a segmenter finds."""

import asyncio

import numpy as np

from mekiki import AsyncClient, Item, ItemFilter, ItemRef, Trimap, errors
from mekiki.review.assignment import Assignment
from mekiki.review.drawn import write_drawn
from mekiki.review.judge import find_segment
from mekiki.review.messages import Json


class Masks:
    """Masks of one data set's items, each asked for when somebody looks."""

    def __init__(self, client: AsyncClient, assignment: Assignment) -> None:
        self._client = client
        self._assignment = assignment

    async def read_item(self, item_id: str) -> tuple[Item, str]:
        """An item as it is now, and what was drawn of it.

        Raises:
            MekikiError: there is no such item, or its mask is damaged.
        """
        one = ItemFilter(self._assignment.items.dataset, item_ids=[item_id])
        async for read in self._client.codec.read_items(one, metadata_only=True, with_masks=True):
            if read.error is not None:
                raise read.error
            drawn = read.trimap
            if read.mask is not None:
                drawn = np.where(read.mask, np.uint8(Trimap.OBJECT), np.uint8(Trimap.BACKGROUND))
            return read.item, "" if drawn is None else await asyncio.to_thread(write_drawn, drawn)
        raise errors.NotFound("the service did not send it")

    async def segment(self, item_id: str) -> Json:
        """Which pixels of an item show its first label, as the segmenter of the assignment says.

        Raises:
            FailedPrecondition: the page was opened without a segmenter.
            MekikiError: the services cannot say.
        """
        segmenter, dataset = self._assignment.require_segmenter(), self._assignment.items.dataset
        label = (await self._client.codec.get_item(dataset, item_id)).label
        found = await self._client.saliency.segment_image(segmenter, ItemRef(dataset, item_id))
        inside = np.full((found.image_height, found.image_width), Trimap.BACKGROUND, np.uint8)
        segment = find_segment(found, label)
        if segment:
            inside[segment.mask] = Trimap.OBJECT
        model = f"{found.model.name}@{found.model.version}"
        drawn = await asyncio.to_thread(write_drawn, inside)
        return {"label": label, "drawn": drawn, "score": segment.score if segment else 0.0, "model": model}
