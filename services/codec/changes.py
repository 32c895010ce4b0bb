"""What is asked of the items of a data set, and what comes of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.codec.catalog import Snapshot
from services.codec.items import UNKNOWN, Annotation, Item, Pixels, Place, has_shape, hash_pixels
from services.codec.segments import Named
from services.runtime.errors import AlreadyExists, Conflict, MekikiError, NotFound


@dataclass(frozen=True, eq=False)
class NewItem:
    """An item to append; fields as in `Item`."""

    item_id: str
    pixels: Pixels
    original_bytes: int
    labels: tuple[str, ...] = ()
    group: str = ""
    split: str = ""
    annotations: tuple[Annotation, ...] = ()
    mask: Pixels | None = None  # grey


@dataclass(frozen=True)
class Appended:
    """An item that is durable; `duplicate` when it was there already, with the same pixels."""

    item: Item
    duplicate: bool


@dataclass(frozen=True)
class Change:
    """New values for an item; None leaves a field as it is. `etag`, unless empty, must still be the item's.

    A mask is the PNG of the grey image, since a queue of pixels could take all memory; an empty one clears it.
    """

    item_id: str
    etag: str = ""
    labels: tuple[str, ...] | None = None
    group: str | None = None
    split: str | None = None
    annotations: tuple[Annotation, ...] | None = None
    mask_png: bytes | None = None


@dataclass(frozen=True)
class KeptMask:
    """A mask that is durable; fields as in `Item`."""

    mask: Place | None = None
    mask_sha256: str = ""
    mask_is_partial: bool = False


def create_items(new: Sequence[NewItem], fresh: dict[str, Named], places: Sequence[Place]) -> dict[str, Item]:
    """The items of new images, by identifier, without their masks; of an identifier given twice the first one's."""
    now = time.time()
    first = {item.item_id: item for item in reversed(new)}
    created = {}
    for named, place in zip(fresh.values(), places, strict=True):
        item, pixels = first[named.item_id], named.pixels
        created[named.item_id] = Item(
            item_id=item.item_id,
            labels=item.labels,
            group=item.group,
            split=item.split,
            sha256=named.sha256,
            width=pixels.shape[1],
            height=pixels.shape[0],
            channels=1 if pixels.ndim == 2 else pixels.shape[2],
            bit_depth=8 * pixels.dtype.itemsize,
            annotations=item.annotations,
            create_time_s=now,
            original_bytes=item.original_bytes,
            revision=1,
            place=place,
        )
    return created


def name_masks(new: Sequence[NewItem], created: Mapping[str, Item]) -> list[Named]:
    """The masks of the items that were created; of an identifier given twice the first one's."""
    first = {item.item_id: item for item in reversed(new)}
    return [name_mask(name, mask) for name in created if (mask := first[name].mask) is not None]


def name_mask(item_id: str, grey: Pixels) -> Named:
    """An item's mask as it goes into a segment."""
    return Named(item_id, hash_pixels(grey), grey, is_mask=True)


def keep_mask(named: Named, place: Place) -> KeptMask:
    """What an item is to say of its mask, which lies there."""
    return KeptMask(place, named.sha256, bool((named.pixels == UNKNOWN).any()))


def put_mask(item: Item, kept: KeptMask) -> Item:
    """The item with another mask."""
    return replace(item, mask=kept.mask, mask_sha256=kept.mask_sha256, mask_is_partial=kept.mask_is_partial)


def acknowledge(
    new: Sequence[NewItem], hashes: Sequence[str], created: dict[str, Item], snapshot: Snapshot
) -> list[Appended | MekikiError]:
    """What to answer to each of the new items: stored just now, a duplicate, or taken by other pixels."""
    answers: list[Appended | MekikiError] = []
    unclaimed = dict(created)
    for item, sha256 in zip(new, hashes, strict=True):
        stored = snapshot.items[item.item_id]
        if stored.sha256 != sha256 or not has_shape(stored, item.pixels):
            message = f"item {item.item_id!r} exists already, with other pixels"
            answers.append(AlreadyExists("item", item.item_id, message))
        else:
            ours = unclaimed.pop(item.item_id, None)
            answers.append(Appended(stored, duplicate=ours is None or ours != stored))
    return answers


def change_item(items: dict[str, Item], change: Change, kept: KeptMask | None) -> Item | MekikiError:
    """Applies a change to `items`; later changes of a batch see earlier ones. `kept` is the mask that it sets."""
    item = items.get(change.item_id)
    if item is None:
        return NotFound("item", change.item_id)
    if change.etag and change.etag != item.etag:
        return Conflict(f"item {change.item_id!r} was changed by somebody else; read it again and retry")
    items[change.item_id] = replace(
        item if kept is None else put_mask(item, kept),
        labels=item.labels if change.labels is None else change.labels,
        group=item.group if change.group is None else change.group,
        split=item.split if change.split is None else change.split,
        annotations=item.annotations if change.annotations is None else change.annotations,
        revision=item.revision + 1,
    )
    return items[change.item_id]
