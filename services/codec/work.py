"""What an encoder works with, and what follows from it for one image."""

from dataclasses import dataclass

from services.codec.background import Remover
from services.codec.catalog import Snapshot
from services.codec.categories import Sorter
from services.codec.geometry import Mask, warp_mask
from services.codec.grouping import main_label
from services.codec.items import Item, Pixels
from services.codec.notes import Notes, Placed
from services.codec.options import Options, unpack_mask
from services.codec.order import describe
from services.codec.prepare import Blanking, Placer, Recipe, make_recipe
from services.codec.reading import OriginalReader
from services.codec.reference import default_margin
from services.runtime.errors import FailedPrecondition

_CUT = 0.01
"""Of a part's area: outlines are never exact."""


@dataclass(frozen=True, eq=False)
class Work:
    """What stays the same throughout."""

    snapshot: Snapshot
    options: Options
    remover: Remover | None
    sorter: Sorter
    originals: OriginalReader
    folder: str
    given: Mask | None
    """The user's mask on the canvas."""


def find_category(work: Work, item: Item) -> str | None:
    """Returns the category that an item is said to be of; None where its looks decide."""
    if work.options.categories != "label" or main_label(item) not in work.sorter.placers:
        return None
    return main_label(item)


def place_image(pixels: Pixels, category: str | None, sorter: Sorter) -> tuple[Placed, Mask | None]:
    """Returns how an image lies on the canvas of its category, and its mask there."""
    found = sorter.sort(pixels, category)
    placer, placement = sorter.placers[found.category], found.placement
    small = describe(found.image, placement.alignment.affine, placer.canvas_width, placer.canvas_height)
    return Placed(found.category, placement.alignment, small), placer.draw_mask(placement)


def draw_given(options: Options, placer: Placer) -> Mask | None:
    """Returns the given mask on the canvas; None where none was given."""
    if not options.mask_png:
        return None
    return warp_mask(unpack_mask(options.mask_png), placer.canvas, placer.canvas_width, placer.canvas_height)


def check_part(item_id: str, part: Mask, kept: Mask) -> None:
    """Raises FailedPrecondition where a part, on the canvas, would be cut by the mask of what is kept."""
    share = float((part & ~kept).sum() / max(1, int(part.sum())))
    if share > _CUT:
        message = f"the mask would cut the part of item {item_id!r} by {share:.1%} of its area, {_CUT:.0%} is allowed"
        raise FailedPrecondition("MASK_CUTS_PART", f"{message}; widen it by mask_margin, or draw another one")


def make_recipes(work: Work, notes: Notes) -> dict[str, Recipe]:
    """Returns the recipes of the categories that have items, in their order."""
    blank: Blanking = "union" if work.options.blank_background else "none"
    used = {placed.category for placed in notes.placed.values()}
    recipes = {}
    for name, placer in work.sorter.placers.items():
        if name in used:
            margin, side = choose_margin(work.options, placer), work.options.frame_side
            union = notes.unions.get(name) if work.given is None else work.given
            recipes[name] = make_recipe(placer, union, blank, margin, side)
    return recipes


def choose_margin(options: Options, placer: Placer) -> int:
    """Returns how far a union mask is widened, pixels."""
    usual = 0 if options.mask_png else default_margin(placer.reference)
    return options.mask_margin if options.mask_margin >= 0 else usual
