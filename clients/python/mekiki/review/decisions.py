"""Writes a person's decisions to the services; each is answered by what became of it."""

import asyncio
from collections.abc import Sequence

from mekiki import AsyncClient, EnrolledItem, Item, ItemRef, Trimap, errors
from mekiki.review.assignment import Assignment
from mekiki.review.drawn import read_drawn
from mekiki.review.masks import Masks
from mekiki.review.messages import Decision, Edit, Enrol, Forget, Json, sign_boxes, write_error, write_item

# What another attempt may mend: the page keeps the decision and sends it again.
_PASSING = (errors.Unavailable, errors.DeadlineExceeded, errors.Overloaded, errors.Cancelled)


class Clerk:
    """Carries decisions to codec and anomaly."""

    def __init__(self, client: AsyncClient, assignment: Assignment, masks: Masks) -> None:
        self._client = client
        self._masks = masks
        self._assignment = assignment
        self.saved_count = 0

    async def keep(self, decisions: Sequence[Decision]) -> list[Json]:
        """Writes all of them at once: those of one moment go into one version of the data set.

        Each is answered, in order, with a status: "saved" with the item as it is now, once that is durable; "conflict"
        with the item as somebody else left it; "refused" with the reason; "later" where another attempt may help.
        """
        return await asyncio.gather(*(self._keep_one(each) for each in decisions))

    async def _keep_one(self, decision: Decision) -> Json:
        try:
            match decision:
                case Edit():
                    outcome = await self._save(sign_boxes(decision, self._assignment.reviewer))
                case Enrol():
                    outcome = await self._enrol(decision)
                case Forget():
                    outcome = await self._forget(decision)
        except _PASSING as error:
            outcome = {"status": "later", **write_error(error)}
        except errors.MekikiError as error:
            outcome = {"status": "refused", **write_error(error)}
        self.saved_count += outcome["status"] == "saved"
        return {"item_id": decision.item_id, **outcome}

    async def _save(self, edit: Edit) -> Json:
        try:
            return {"status": "saved", "item": write_item(await self._update(edit), edit.drawn)}
        except errors.Conflict:
            item, drawn = await self._masks.read_item(edit.item_id)
            # An answer that was lost on its way is asked for again: what is there is then just what was sent.
            is_same = item.annotations == edit.annotations and edit.drawn in (None, drawn)
            return {"status": "saved" if is_same else "conflict", "item": write_item(item, drawn)}

    async def _update(self, edit: Edit) -> Item:
        drawn = await asyncio.to_thread(read_drawn, edit.drawn) if edit.drawn else None
        is_whole = drawn is not None and not (drawn == Trimap.UNKNOWN).any()
        return await self._client.codec.update_item(
            self._assignment.items.dataset,
            edit.item_id,
            annotations=edit.annotations,
            mask=drawn == Trimap.OBJECT if drawn is not None and is_whole else None,
            trimap=None if is_whole else drawn,
            clear_mask=edit.drawn == "",
            etag=edit.etag,
        )

    async def _enrol(self, decision: Enrol) -> Json:
        normal = EnrolledItem(
            decision.item_id, ItemRef(self._assignment.items.dataset, decision.item_id), decision.category
        )
        done = await self._client.anomaly.enroll_items(self._assignment.require_detector(), [normal])
        return {"status": "saved", "bank_version": done.bank_version, "is_new": done.enrolled_count > 0}

    async def _forget(self, decision: Forget) -> Json:
        done = await self._client.anomaly.forget_items(self._assignment.require_detector(), [decision.item_id])
        return {"status": "saved", "bank_version": done.bank_version}
