"""How a prepared version of a data set is made."""

import base64
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from services.codec.align import Transform
from services.codec.catalog import Snapshot
from services.codec.geometry import Mask
from services.codec.items import Item
from services.codec.stills import decode_png, encode_png
from services.codec.video_encode import Codec, Rate
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound

AlignmentMethod = Literal["pose", "akaze", "none"]
ReferenceChoice = Literal["medoid", "first"]
ChromaChoice = Literal["auto", "420", "444"]
Grouping = Literal["one", "label", "looks"]

USUAL_TRANSFORM: dict[AlignmentMethod, Transform] = {"pose": "rigid", "akaze": "similarity", "none": "rigid"}


@dataclass(frozen=True)
class Options:
    """Fields as in the proto's `EncodingOptions`.

    Attributes:
        background: "auto", "none", "contrast" or "rembg".
        alignment: the method.
        transform: what it may do to an image.
        blank_background: whether what lies outside the union of the masks is blanked.
        crf: the encoder's rate factor, 0 to 51 of HEVC, 63 of AV1.
        gop: frames a group of pictures.
        reference: how references are chosen.
        reference_item_id: the reference, instead; only where there is one category.
        reference_splits: whose items make up references and union masks.
        mask_margin: pixels by which union masks are widened; -1: as `default_margin` says.
        categories: how items are grouped into kinds of parts.
        frame_side: longer side that frames are shrunk to, pixels; 0: none is.
        codec: of the video.
        chroma: resolution of its colour; "auto": as `chroma` finds, never in a record.
        mask_png: what is kept of the reference, instead of the union; a PNG in base64, empty where none was given.
    """

    background: str
    alignment: AlignmentMethod
    transform: Transform
    blank_background: bool
    crf: int
    gop: int
    reference: ReferenceChoice
    reference_item_id: str
    reference_splits: tuple[str, ...]
    mask_margin: int
    categories: Grouping
    frame_side: int = 0
    codec: Codec = "hevc"
    chroma: ChromaChoice = "auto"
    mask_png: str = ""

    @property
    def rate(self) -> Rate:
        """How the videos are made, once the chroma is known."""
        return Rate(self.crf, self.gop, self.codec, "444" if self.chroma == "444" else "420")


def fill_options(snapshot: Snapshot, options: Options) -> Options:
    """Returns the options with the splits filled in; what the images decide, stays open.

    Raises:
        FailedPrecondition: the data set, or its reference splits, hold no item.
        InvalidArgument: options that exclude each other.
        NotFound: the reference item does not exist.
    """
    if options.alignment == "pose" and options.background == "none":
        raise InvalidArgument("options.alignment", "must be AKAZE or NONE where background is NONE, is POSE")
    if options.reference_item_id and options.categories != "one":
        raise InvalidArgument(
            "options.reference_item_id", f"must be empty where categories is not ONE, is {options.reference_item_id!r}"
        )
    splits = options.reference_splits or (("train",) if "train" in snapshot.body["split_counts"] else ())
    filled = replace(options, reference_splits=splits)
    if options.reference_item_id and options.reference_item_id not in snapshot.items:
        raise NotFound("item", options.reference_item_id)
    _check_mask(snapshot, options)
    list_candidates(snapshot, filled)
    return filled


def list_candidates(snapshot: Snapshot, options: Options) -> list[Item]:
    """Returns the items that may be references, by identifier; raises FailedPrecondition where there is none."""
    splits = options.reference_splits
    candidates = [item for item in snapshot.items.values() if not splits or item.split in splits]
    if not candidates:
        where = f"the splits {', '.join(splits)} of " if splits else ""
        raise FailedPrecondition("EMPTY_DATASET", f"{where}data set {snapshot.name!r} hold no item to refer to")
    return sorted(candidates, key=lambda item: item.item_id)


def pack_mask(mask: Mask) -> str:
    """Returns a mask as `Options.mask_png` has it."""
    return base64.b64encode(encode_png(mask.astype(np.uint8) * 255)).decode()


def unpack_mask(packed: str) -> Mask:
    """Returns what `pack_mask` was given."""
    return np.asarray(decode_png(base64.b64decode(packed)) >= 128)


def _check_mask(snapshot: Snapshot, options: Options) -> None:
    """Raises InvalidArgument where a given mask fits no reference."""
    if not options.mask_png:
        return
    if not options.reference_item_id:
        raise InvalidArgument("options.mask", "must come with reference_item_id: it lies in the pixels of that item")
    mask, item = unpack_mask(options.mask_png), snapshot.items[options.reference_item_id]
    if mask.shape != (item.height, item.width):
        size = f"{item.width} x {item.height} pixels as item {item.item_id!r}"
        raise InvalidArgument("options.mask", f"must have {size}, has {mask.shape[1]} x {mask.shape[0]}")
    if not mask.any():
        raise InvalidArgument("options.mask", "must keep something, is empty")
    if not options.blank_background:
        raise InvalidArgument("options.mask", "must be unset where blank_background is false")
