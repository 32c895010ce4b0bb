"""What annotation files tell, before the images that they speak of are looked at."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mekiki import Annotation, AnnotationState, Box
from mekiki.formats.outlines import Ends, Outline

SPLITS: Mapping[str, str] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Words for splits in other formats, in small letters; one that is missing here counts as none."""

_ROUNDING = 1e-3  # pixels; shares are written in so many digits only
_LARGEST = 1 << 30  # pixels; what lies beyond is cut, as what lies beyond an image is


@dataclass(frozen=True, eq=False)
class ToldBox:
    """A box as it is told: half open, in pixels, or in shares of the image's sides."""

    label: str
    ends: Ends
    is_share: bool = False
    outline: Outline | None = None
    score: float = 1.0
    state: AnnotationState = AnnotationState.ACCEPTED

    def draw(self, width: int, height: int) -> Annotation | None:
        """The box in whole pixels inside an image of that size; None where nothing of it is left."""
        across, down = (width, height) if self.is_share else (1, 1)
        left, top, right, bottom = self.ends
        low = max(0, _floor(left * across)), max(0, _floor(top * down))
        high = min(_ceil(right * across), width), min(_ceil(bottom * down), height)
        if low[0] >= high[0] or low[1] >= high[1]:
            return None
        return Annotation(Box(*low, *high), self.label, score=self.score, source="imported", state=self.state)


@dataclass(frozen=True, eq=False)
class Told:
    """What a file tells of one image."""

    file: str
    """Which file, for people."""

    boxes: tuple[ToldBox, ...]
    labels: tuple[str, ...] = ()
    """Of the image as a whole."""

    split: str = ""
    width: int = 0
    """Pixels; 0 where it is not told."""

    height: int = 0
    keeps_folders: bool = False
    """A folder that the image lies in names its label, and goes before the boxes' labels."""


@dataclass
class Marks:
    """What annotation files tell of the images of a folder."""

    told: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """By path or name with its ending, or without where the format has none."""

    splits: dict[str, str] = field(default_factory=dict)
    """By name without ending: splits that files apart tell, such as Pascal VOC's."""

    left_out: int = 0
    """Boxes of crowds."""

    def add(self, name: str, told: Told) -> None:
        """Notes what is told of an image.

        Raises:
            ValueError: the same file, or one for the same split, has told of it already.
        """
        for other in self.told[name]:
            if other.file == told.file or other.split == told.split:
                raise ValueError(f"{name!r} is annotated twice, in {other.file} and in {told.file}")
        self.told[name].append(told)

    def find(self, image: PurePosixPath) -> tuple[str, Told] | None:
        """What is told of an image, and by which name, given its path below the folder; None where nothing is.

        Raises:
            ValueError: more than one file tells of it, and none of them by the split that it lies in.
        """
        parts = image.parts
        names = ["/".join(parts[start:]) for start in range(len(parts))]
        names += [str(PurePosixPath(name).with_suffix("")) for name in names]
        name = next((name for name in names if self.told.get(name)), None)
        if name is None:
            return None
        several = self.told[name]
        if len(several) > 1:
            words = {SPLITS.get(part.lower(), part) for part in parts[:-1]}
            several = [each for each in several if each.split in words]
        if len(several) != 1:
            files = ", ".join(each.file for each in self.told[name])
            raise ValueError(f"{image}: cannot tell which annotation is meant of those in {files}")
        return name, several[0]


def _floor(value: float) -> int:
    return math.floor(max(min(value + _ROUNDING, _LARGEST), -_LARGEST))


def _ceil(value: float) -> int:
    return math.ceil(max(min(value - _ROUNDING, _LARGEST), -_LARGEST))
