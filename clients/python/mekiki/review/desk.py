"""Everything that one review holds while it runs: the client, the pictures, the verdicts, the decisions."""

import asyncio
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

import numpy as np

from mekiki import AsyncClient, Item, ItemRef, MekikiError, errors
from mekiki.review.album import Album
from mekiki.review.assignment import Assignment, list_unmasked, sort_by_doubt, sort_by_mask
from mekiki.review.decisions import Clerk
from mekiki.review.judge import Finder, Judge, Verdicts, end
from mekiki.review.masks import Masks
from mekiki.review.messages import Json, write_item
from mekiki.review.pictures import Picture, draw_picture, draw_thumbnail, paint_heat

THUMBNAIL_BYTES = 96 << 20
PICTURE_BYTES = 96 << 20
HEAT_SIDE = 256
"""Longer side of a heat map, cells."""
SOURCE = "saliency/"
"""What stands before the classifier in the source of a proposal."""

_log = logging.getLogger(__name__)


class Desk:
    """What the page's requests work on; belongs to the running event loop."""

    def __init__(self, client: AsyncClient, assignment: Assignment) -> None:
        dataset = assignment.items.dataset
        self.assignment = assignment
        self.masks = Masks(client, assignment)
        self.clerk = Clerk(client, assignment, self.masks)
        self.segmented: tuple[str, ...] = ()
        self.judge = Judge(client, dataset, assignment.detector) if assignment.detector else None
        self.finder = Finder(client, dataset, assignment.segmenter) if assignment.segmenter else None
        self.thumbnails = Album(client, dataset, draw_thumbnail, THUMBNAIL_BYTES)
        self.pictures = Album(client, dataset, draw_picture, PICTURE_BYTES)
        self._client = client
        self._dataset = dataset
        self._beside: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begins to draw and to judge beside whatever is asked.

        Raises:
            MekikiError: there is no such data set, detector, classifier or segmenter, or no service.
        """
        assignment = self.assignment
        if assignment.detector:
            await self._client.anomaly.get_detector(assignment.detector)
        if assignment.classifier:
            await self._client.saliency.get_classifier(assignment.classifier)
        if assignment.segmenter:
            self.segmented = (await self._client.saliency.get_segmenter(assignment.segmenter)).labels
        items, _ = await self.read_items()
        names = [item.item_id for item in items]
        self._beside.append(asyncio.create_task(self._draw_ahead(names)))
        if self.judge is not None:
            self._beside.append(asyncio.create_task(_gather(self.judge, self.judge.judge_all(names))))
        elif self.finder is not None:
            labels = list_unmasked(items, self.segmented)
            self._beside.append(asyncio.create_task(_gather(self.finder, self.finder.find_all(labels))))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._beside:
            await end(task)
        await self.thumbnails.close()
        await self.pictures.close()

    @property
    def verdicts(self) -> Verdicts | None:
        """What is said of the items: by the detector of the assignment, else by its segmenter."""
        return self.judge or self.finder

    async def read_items(self) -> tuple[list[Item], int]:
        """The items to look through, the most doubtful first, and how many there are in all."""
        found = [read.item async for read in self._client.codec.read_items(self.assignment.items, metadata_only=True)]
        limit = self.assignment.limit
        if self.assignment.segmenter:
            return await asyncio.to_thread(sort_by_mask, found, limit, self.segmented), len(found)
        return await asyncio.to_thread(sort_by_doubt, found, limit), len(found)

    async def read_version(self) -> int:
        """The data set's version: while it stays, no item has changed."""
        return (await self._client.codec.get_dataset(self._dataset)).version

    async def read_item(self, item_id: str) -> Json:
        """An item as it is now, with what was drawn of it."""
        return write_item(*await self.masks.read_item(item_id))

    async def list_labels(self) -> list[str]:
        """The labels of the data set's items, the most frequent first."""
        counts = (await self._client.codec.get_dataset(self._dataset)).label_counts
        return sorted(counts, key=lambda label: (-counts[label], label))

    async def explain(self, item_id: str, label: str, source: str) -> Picture:
        """Which pixels speak for a label: by the classifier of the assignment, else by the one that `source` names.

        Raises:
            FailedPrecondition: neither names one.
            MekikiError: the services cannot say.
        """
        classifier = self.assignment.classifier or read_classifier(source)
        if not classifier:
            message = "no classifier is known for this box: start with --classifier NAME"
            raise errors.FailedPrecondition(message, reason="NO_CLASSIFIER")
        said = await self._client.saliency.explain_image(
            classifier, ItemRef(self._dataset, item_id), label=label, heatmap_side=HEAT_SIDE
        )
        return await asyncio.to_thread(paint_heat, said.heatmap.values, 0.1, 1.0)

    async def show_anomaly(self, item_id: str) -> Picture:
        """Where an item differs from the normals, full where it is far beyond the threshold.

        Raises:
            FailedPrecondition: the page was opened without a detector.
            MekikiError: the services cannot say.
        """
        scored = await self._client.anomaly.score_image(
            self.assignment.require_detector(), ItemRef(self._dataset, item_id), heatmap_side=HEAT_SIDE
        )
        if scored.heatmap is None:
            raise errors.Internal("the service sent no heat map")
        values = scored.heatmap.values
        low, high = float(np.median(values)), float(values.max())
        if scored.threshold:
            low, high = 0.6 * scored.threshold, 1.5 * scored.threshold
        return await asyncio.to_thread(paint_heat, values, low, high)

    async def _draw_ahead(self, item_ids: list[str]) -> None:
        try:
            await self.thumbnails.fill(item_ids)
        except MekikiError as error:  # they are drawn when they are asked for
            _log.info("thumbnails are not drawn ahead: %s", error.message)


async def _gather(verdicts: Verdicts, gathering: Awaitable[None]) -> None:
    try:
        await gathering
    except MekikiError as error:
        verdicts.failure = error.message


def read_classifier(source: str) -> str:
    """The classifier that a proposal's source names, such as "parts" of "boxfit/exact saliency/parts@3"; else empty.

    Versions of classifiers cannot be asked for: it is the one that serves under that name. What begins with saliency
    names an object detector, which has no heat maps.
    """
    named = [word.removeprefix(SOURCE) for word in source.split()[1:] if word.startswith(SOURCE)]
    return named[0].partition("@")[0] if named else ""
