"""More pictures from few: moved, turned and toned ones, and scenes composed of parts that were cut out.

    from mekiki import augment, formats

    pictures = (formats.to_picture(read) for read in client.codec.read_items("parts"))
    counts = augment.share_out(names, total=2500)
    formats.write_dataset("yolo", folder, augment.augment_pictures(pictures, counts))

Boxes and masks go with their pixels. All chance comes from the seed and a picture's name: the same seed makes the same
pictures, whatever else is in the set. One picture is held at a time. Needs OpenCV: `pip install "mekiki[augment]"`.
"""

from mekiki.augment.compose import ComposeOptions, compose_scenes
from mekiki.augment.cutout import Part, collect_parts
from mekiki.augment.multiply import AugmentOptions, augment_picture, augment_pictures, share_out
from mekiki.augment.tone import Tone
from mekiki.augment.warp import Motion

__all__ = [
    "AugmentOptions",
    "ComposeOptions",
    "Motion",
    "Part",
    "Tone",
    "augment_picture",
    "augment_pictures",
    "collect_parts",
    "compose_scenes",
    "share_out",
]
