"""Kinds of parts in one data set, and which of them an image belongs to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from services.codec.background import Image
from services.codec.geometry import Mask
from services.codec.options import AlignmentMethod
from services.codec.prepare import Placement, Placer, View
from services.runtime.errors import NotFound

ALIKE = 0.8
"""IoU of outlines from which on images are surely of one kind: of screws it is .87 and more, of textures chance."""


@dataclass(frozen=True)
class Category:
    """A kind of part, before its images are placed.

    Attributes:
        name: unique in the encoding; "" where there is one category only, or for items without a label.
        reference_item_id: what its images are brought to.
        alignment: how; "none" where they have no outline to go by.
        reason: why they stay as they are though an alignment was asked for; else empty.
        room: width and height that hold each of them, where nothing is aligned; else zeros.
    """

    name: str
    reference_item_id: str
    alignment: AlignmentMethod
    reason: str
    room: tuple[int, int] = (0, 0)

    @property
    def is_outlined(self) -> bool:
        """Whether its images show a part."""
        return not self.reason


@dataclass(frozen=True, eq=False)
class Sorted:
    """An image with its category: as that converts it, how it lies on that one's canvas, and how well it fits there."""

    category: str
    image: Image
    placement: Placement
    merit: tuple[bool, bool, bool, float]


class Sorter:
    """Brings images to the reference of their category. Safe to use from several threads.

    Args:
        placers: by category, the most frequent one first; at least one.
    """

    def __init__(self, placers: Mapping[str, Placer]) -> None:
        self.placers = placers

    def sort(self, pixels: NDArray[Any], category: str | None = None) -> Sorted:
        """Places an image by its category; by the one that it aligns to best where none is given.

        One that aligns to none is left in the first.

        Raises:
            NotFound: there is no such category.
        """
        if category is not None and category not in self.placers:
            raise NotFound("category", category)
        return max(
            self._place(pixels, list(self.placers) if category is None else [category]), key=lambda found: found.merit
        )

    def _place(self, pixels: NDArray[Any], names: Sequence[str]) -> Iterator[Sorted]:
        views: dict[View, tuple[Image, Mask | None]] = {}  # finding the part takes longer than all else
        for name in names:
            placer = self.placers[name]
            if placer.view not in views:
                image = placer.convert(pixels)
                views[placer.view] = image, placer.find_part(image)
            image, mask = views[placer.view]
            placement = placer.place(image, mask)
            channels = 1 if pixels.ndim == 2 else pixels.shape[2]
            # An image that aligns well by its outline lies there for sure; one left as it is where it is like the rest.
            alignment = placement.alignment
            likeness = alignment.score if mask is not None else _share(image, placer)
            is_sure = mask is not None and alignment.score >= ALIKE
            merit = (alignment.aligned, is_sure, channels == placer.view.channels, likeness)
            yield Sorted(name, image, placement, merit)


def _share(image: Image, placer: Placer) -> float:
    """How much of a canvas an image fills, 0 to 1."""
    height, width = map(int, image.shape[:2])
    return min(1.0, width * height / (placer.canvas_width * placer.canvas_height))
