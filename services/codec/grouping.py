"""Sorts the items of a data set into kinds of parts, and chooses a reference for each."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from services.codec.ahead import map_ahead
from services.codec.background import Remover
from services.codec.catalog import Snapshot
from services.codec.categories import ALIKE, Category, Sorter
from services.codec.dataset import Datasets
from services.codec.items import Item, Pixels
from services.codec.medoid import choose_medoid, spread
from services.codec.options import Options, list_candidates
from services.codec.prepare import Placer
from services.codec.progress import Progress
from services.codec.reference import open_reference
from services.runtime.errors import DataLoss, FailedPrecondition

_LOOKED_AT = 240
"""Most items by whose looks kinds are told apart."""
_MOST_LEADERS = 64
_LEAST_SHARE = 0.05
_LEAST_MEMBERS = 2
_BAD_SHARE = 0.25


@dataclass(eq=False)
class _Kind:
    """Items that look alike; `placer` brings images to the first of them; `is_flat` says that they show no part."""

    items: list[Item]
    placer: Placer | None = None
    is_flat: bool = False


class Grouper:
    """Finds the categories of a version.

    Args:
        datasets: where the pixels are.
        snapshot: the version.
        options: filled in by `fill_options`.
        remover: finds the parts; None where nothing does.
        threads: images worked on at once.
    """

    def __init__(
        self, datasets: Datasets, snapshot: Snapshot, options: Options, remover: Remover | None, threads: int
    ) -> None:
        self._datasets = datasets
        self._snapshot = snapshot
        self._options = options
        self._remover = remover
        self._threads = threads

    def group(self, progress: Progress) -> list[Category]:
        """Returns the categories, the one with the most items first.

        Raises:
            FailedPrecondition: no item can be read, or the only category shows no part though parts are to be aligned.
            Cancelled: the progress said so.
        """
        candidates = list_candidates(self._snapshot, self._options)
        if self._options.categories == "looks":
            named = self._name(self._sort_by_looks(candidates, progress))
        elif self._options.categories == "label":
            named = {name: _Kind(items) for name, items in self._sort_by_label(candidates).items()}
        else:
            named = {"": _Kind(candidates)}
        found = []
        for number, (name, kind) in enumerate(named.items()):
            progress.report("choosing references", number, len(named))
            found.append(self._choose(name, kind))
        categories = [category for category in found if category is not None]
        if not categories:
            why = "none can be read, or no part stands out; images without parts need background and alignment NONE"
            raise FailedPrecondition("NO_REFERENCE", f"no item can be a reference: {why}")
        return categories

    def open_placer(self, category: Category) -> Placer:
        """Returns what brings images to a category's reference; raises as `open_reference`, and DataLoss."""
        pixels = self._datasets.read_pixels(self._snapshot, self._snapshot.items[category.reference_item_id])
        return self._open(pixels, category)

    def _sort_by_label(self, candidates: Sequence[Item]) -> dict[str, list[Item]]:
        """Returns the items to choose a reference from, by main label; without candidates any of that label."""
        members: dict[str, list[Item]] = defaultdict(list)
        for item in self._snapshot.items.values():
            members[main_label(item)].append(item)
        preferred: dict[str, list[Item]] = defaultdict(list)
        for item in candidates:
            preferred[main_label(item)].append(item)
        largest_first = sorted(members, key=lambda name: (-len(members[name]), name))
        return {name: preferred[name] or members[name] for name in largest_first}

    def _sort_by_looks(self, candidates: Sequence[Item], progress: Progress) -> list[_Kind]:
        """Each item joins the kind that it aligns to best, or begins a new one; what is rare is no kind.

        What shows no part, or belongs to no kind, is sorted by its channels and, roughly, its size.
        """
        items = spread(candidates, _LOOKED_AT)
        kinds: list[_Kind] = []
        loose: list[Item] = []
        for number, (item, pixels) in enumerate(zip(items, map_ahead(self._read, items, self._threads), strict=True)):
            progress.report("telling kinds of parts apart", number, len(items))
            if pixels is not None and not self._join(kinds, item, pixels):
                loose.append(item)
        least = max(_LEAST_MEMBERS, math.ceil(_LEAST_SHARE * len(items)))
        loose += [item for kind in kinds if len(kind.items) < least for item in kind.items]
        kept = [kind for kind in kinds if len(kind.items) >= least]
        outlined = Counter(_shape(item) for kind in kept for item in kind.items)
        shaped: dict[tuple[int, ...], _Kind] = defaultdict(lambda: _Kind([], is_flat=True))
        for item in loose:
            shaped[_shape(item)].items.append(item)
        # A few that look as if they were of a kind, but do not align to it, are rather bad images than another kind.
        textures = [s for s in shaped if len(shaped[s].items) >= max(least, _BAD_SHARE * outlined[s])]
        return [*kept, *(shaped[shape] for shape in textures)] or list(shaped.values())[:1]

    def _join(self, kinds: list[_Kind], item: Item, pixels: Pixels) -> bool:
        """Adds the item to a kind, if need be to a new one; says whether it did."""
        outlined = {str(number): kind.placer for number, kind in enumerate(kinds) if kind.placer is not None}
        if outlined:
            found = Sorter(outlined).sort(pixels)
            alignment = found.placement.alignment
            if alignment.aligned and alignment.score >= ALIKE:
                kinds[int(found.category)].items.append(item)
                return True
        if len(kinds) >= _MOST_LEADERS or self._options.alignment == "none":
            return False
        placer = self._try_to_open(pixels, Category("", item.item_id, self._options.alignment, ""))
        if placer is not None:
            kinds.append(_Kind([item], placer))
        return placer is not None

    def _name(self, kinds: Iterable[_Kind]) -> dict[str, _Kind]:
        largest_first = sorted(kinds, key=lambda kind: -len(kind.items))
        return {f"category-{number}": kind for number, kind in enumerate(largest_first, start=1)}

    def _choose(self, name: str, kind: _Kind) -> Category | None:
        """Returns the category with its reference; None where none of its items can be read."""
        room = self._find_room(name, kind.items)
        is_left = self._options.alignment == "none"
        category = Category(name, "", self._options.alignment, "", room if is_left else (0, 0))
        reference = None if kind.is_flat else self._find_reference(kind.items, category)
        if reference is None and self._options.categories != "one":
            reason = "no part stands out from its background"
            category = replace(category, alignment="none", reason=reason, room=room)
            reference = self._find_reference(kind.items, category)
        return None if reference is None else replace(category, reference_item_id=reference)

    def _find_room(self, name: str, items: Sequence[Item]) -> tuple[int, int]:
        """Returns the width and height that hold every image that may be of a category, not only its candidates."""
        others = [*self._snapshot.items.values()]
        if self._options.categories == "label":
            others = [item for item in others if main_label(item) == name]
        elif self._options.categories == "looks":
            shapes = {_shape(item) for item in items}
            others = [item for item in others if _shape(item) in shapes]
        return max(item.width for item in others), max(item.height for item in others)

    def _find_reference(self, items: Sequence[Item], category: Category) -> str | None:
        given = self._options.reference_item_id
        if given:
            self.open_placer(replace(category, reference_item_id=given))  # raises where it cannot be one
            return given
        if self._options.reference == "medoid":
            return choose_medoid(
                [item.item_id for item in items], self._read_named, lambda pixels: self._try_to_open(pixels, category)
            )
        for item in items:
            pixels = self._read(item)
            if pixels is not None and self._try_to_open(pixels, category) is not None:
                return item.item_id
        return None

    def _read(self, item: Item) -> Pixels | None:
        try:
            return self._datasets.read_pixels(self._snapshot, item)
        except DataLoss:  # it is told when the item is placed
            return None

    def _read_named(self, name: str) -> Pixels | None:
        return self._read(self._snapshot.items[name])

    def _try_to_open(self, pixels: Pixels, category: Category) -> Placer | None:
        try:
            return self._open(pixels, category)
        except FailedPrecondition:  # no part stands out
            return None

    def _open(self, pixels: Pixels, category: Category) -> Placer:
        remover = self._remover if category.is_outlined else None
        reference = open_reference(pixels, remover)
        return Placer(reference, category.alignment, remover, self._options.transform, room=category.room)


def main_label(item: Item) -> str:
    """Returns an item's first label; "" where it has none."""
    return item.labels[0] if item.labels else ""


def _shape(item: Item) -> tuple[int, ...]:
    """Equal for images whose sizes differ by a factor of four at most, about, with as many channels and bits."""
    return round(math.log2(max(item.width, item.height)) / 2), item.channels, item.bit_depth
