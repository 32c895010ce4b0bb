"""Where pictures with boxes come from: a folder, or a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mekiki import Client, ItemFilter
from mekiki.cli.files import read_mask
from mekiki.cli.folder import ImageFile, read_folder
from mekiki.formats import Mark, Picture, is_settled, to_picture
from mekiki.formats.outlines import draw_outlines
from mekiki.formats.picture import cut_mask, read_pixels


class Source(Protocol):
    """Pictures that can be read again and again, one after another."""

    @property
    def names(self) -> Sequence[str]:
        """Of the pictures, in the order in which they come."""

    def read(self) -> Iterator[Picture]:
        """The pictures."""


@dataclass(frozen=True)
class Wanted:
    """Which pictures of a source."""

    splits: Sequence[str] = ()
    """Empty: any but test and validation, from which nothing may be learned."""

    labels: Sequence[str] = ()
    """Empty: any."""

    proposed: bool = False
    """With the boxes that nobody has decided on."""

    def takes(self, split: str, labels: Sequence[str]) -> bool:
        """Whether a picture is meant."""
        is_in = split in self.splits if self.splits else split not in ("test", "val", "validation")
        return is_in and (not self.labels or any(label in self.labels for label in labels))


def open_source(client: Client, place: str, wanted: Wanted) -> Source:
    """A folder, where there is one of that name, else a data set.

    Raises:
        ValueError: it holds no such pictures, or its annotations cannot be read.
        NotFound: there is no such data set.
    """
    source: Source
    if Path(place).is_dir():
        files = read_folder(Path(place)).files
        source = _FolderSource(tuple(file for file in files if wanted.takes(file.split, file.labels)))
    else:
        source = _DatasetSource(client, place, _list_items(client, place, wanted), proposed=wanted.proposed)
    if not source.names:
        raise ValueError(
            f"{place} holds no such pictures, or none whose boxes are decided on (--proposed takes others)"
        )
    return source


@dataclass(frozen=True)
class _FolderSource:
    files: tuple[ImageFile, ...]

    @property
    def names(self) -> Sequence[str]:
        return [file.item_id for file in self.files]

    def read(self) -> Iterator[Picture]:
        return map(_read_file, self.files)


def _read_file(file: ImageFile) -> Picture:
    pixels = read_pixels(file.path)
    height, width = pixels.shape[:2]
    mask = read_mask(file.mask) if file.mask else None
    if mask is None and file.outlines:
        mask = draw_outlines(file.outlines, width, height)
    main = file.labels[0] if file.labels else ""
    marks = tuple(Mark(box, cut_mask(mask, box, main)) for box in file.boxes)
    return Picture(file.item_id, pixels, marks, file.labels, split=file.split, mask=mask)


@dataclass(frozen=True)
class _DatasetSource:
    client: Client
    dataset: str
    names: Sequence[str]
    proposed: bool

    def read(self) -> Iterator[Picture]:
        wanted = ItemFilter(self.dataset, item_ids=self.names)
        for read in self.client.codec.read_items(wanted, with_masks=True):
            picture = to_picture(read, proposed=self.proposed)
            yield replace(picture, name=read.item.item_id)


def _list_items(client: Client, dataset: str, wanted: Wanted) -> list[str]:
    reads = client.codec.read_items(dataset, metadata_only=True)
    items = [read.item for read in reads if wanted.takes(read.item.split, read.item.labels)]
    return [item.item_id for item in items if is_settled(item.annotations, proposed=wanted.proposed)]
