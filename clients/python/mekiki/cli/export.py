"""The command `export`: images of a data set with their boxes, in the formats of other tools."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mekiki import Client, ItemFilter
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.output import Output
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session
from mekiki.formats import DatasetFormat, Picture, is_settled, to_picture, write_dataset

Form = Annotated[DatasetFormat, typer.Option("--format", help="Of the files.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="Images as PNG instead of JPEG of quality 95.")]


@dataclass
class Settled:
    """The items of a data set that are ready for a trainer, as pictures."""

    client: Client
    output: Output
    wanted: ItemFilter
    proposed: bool
    masks: bool
    left_out: int = 0
    """Items with boxes that nobody has decided on, or all of whose boxes were rejected."""

    def read(self) -> Iterator[Picture]:
        """Reads them one after another; raises what is wrong with a damaged one."""
        with self.output.bar(f"reading {self.wanted.dataset}") as bar:
            for number, read in enumerate(self.client.codec.read_items(self.wanted, with_masks=self.masks), 1):
                bar.show(number, None)
                is_kept = is_settled(read.item.annotations, proposed=self.proposed)
                self.left_out += not is_kept
                if is_kept:
                    yield to_picture(read, proposed=self.proposed)

    def tell(self) -> None:
        """Says what was left out."""
        if self.left_out:
            hint = "" if self.proposed else "; --proposed takes boxes that nobody has decided on as they are"
            self.output.warn(f"{self.left_out} images are left out: their boxes are not decided on, or rejected{hint}")


def export(  # noqa: PLR0913 -- a command's options
    dataset: DatasetName,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.")],
    *,
    form: Form = DatasetFormat.VOC,
    proposed: Annotated[bool, typer.Option("--proposed", help="Also boxes that nobody has decided on.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Masks, too, where the format has them.")] = False,
    lossless: Lossless = False,
    split: Splits = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Export images and the boxes that a person has accepted, in a format that trainers and other tools read.

    Images with boxes that nobody has decided on yet are left out unless --proposed takes them as they are, and so are
    those all of whose boxes were rejected: to a trainer they would be pictures of nothing. Images that never had a box
    are exported as just that.
    """
    wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
    with session(address, json=json) as (client, output):
        settled = Settled(client, output, wanted, proposed, masks)
        count = write_dataset(form, out, settled.read(), lossless=lossless)
        settled.tell()
        output.say(f"{count} images with their boxes in {out}")
        output.value({"images": count, "left_out": settled.left_out, "format": form, "path": str(out)})
