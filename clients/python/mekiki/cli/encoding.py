"""The command that prepares a data set: encode."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mekiki import (
    AlignmentMethod,
    BackgroundRemoval,
    CategoryGrouping,
    ChromaSampling,
    Client,
    CompressionTuning,
    Configuration,
    EncodedCategory,
    EncodedDataset,
    EncodingOptions,
    ItemFilter,
    ItemForm,
    RatePoint,
    Transform,
    VideoCodec,
)
from mekiki.cli.datasets import DatasetName
from mekiki.cli.files import read_mask
from mekiki.cli.output import Output
from mekiki.cli.reporting import Report, make_report
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, follow, session
from mekiki.cli.trials import read_configuration


def encode(  # noqa: PLR0913 -- a command's options
    dataset: DatasetName,
    *,
    original: Annotated[
        bool, typer.Option("--original", help="The original method; of the other options --crf and --gop count.")
    ] = False,
    background: Annotated[BackgroundRemoval, typer.Option(help="Which pixels are the part.")] = BackgroundRemoval.AUTO,
    alignment: Annotated[AlignmentMethod, typer.Option(help="How images are aligned.")] = AlignmentMethod.POSE,
    transform: Annotated[
        Transform | None, typer.Option(help="What aligning may do; default rigid, with akaze similarity.")
    ] = None,
    categories: Annotated[
        CategoryGrouping, typer.Option(help="Which images share reference, mask and video.")
    ] = CategoryGrouping.ONE,
    blank: Annotated[bool, typer.Option(help="Blank everything outside the union of the masks.")] = True,
    codec: Annotated[VideoCodec, typer.Option(help="Of the video.")] = VideoCodec.HEVC,
    chroma: Annotated[
        ChromaSampling | None, typer.Option(help="Resolution of its colour; default by what that would lose.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(help="Rate factor, 0 to 51 of HEVC, default 28; 0 to 63 of AV1, default 40.")
    ] = None,
    gop: Annotated[int | None, typer.Option(help="Frames a group of pictures; default 16.")] = None,
    side: Annotated[
        int | None, typer.Option(help="Longer side that frames are shrunk to, pixels; default none.")
    ] = None,
    reference: Annotated[str, typer.Option(help="Item that the others are aligned to.")] = "",
    mask: Annotated[
        Path | None,
        typer.Option(help="PNG, white where --reference is to be kept; default the union of the parts' masks."),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Find the largest rate factor at which the judge's AUROC falls by no more than this: 0.005."),
    ] = None,
    judge: Annotated[str, typer.Option(help="ENGINE[,OPTION=VALUE...] of --max-loss.")] = "padim",
    report: Report = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Make the prepared version of a data set: background removed, aligned, blanked, HEVC.

    With --max-loss the rate factor is chosen by what a detector loses that learns from the items of split "train": it
    judges some of them that it did not learn from, and defects that are made on them. No test image is looked at.
    """
    if max_loss is not None and crf is not None:
        raise typer.BadParameter("--max-loss chooses the rate factor: leave --crf out")
    options = EncodingOptions(
        background=background,
        alignment=alignment,
        blank_background=blank,
        reference_item_id=reference,
        transform=transform,
        categories=categories,
        frame_side=side,
        video_codec=codec,
        chroma=chroma,
        mask=read_mask(mask) if mask else None,
    )
    options = replace(EncodingOptions.original() if original else options, crf=crf, gop=gop)
    with session(address, json=json) as (client, output):
        made = _make(client, output, dataset, options)
        tuned = None
        if max_loss is not None:
            normals = ItemFilter(
                dataset, splits=("train",), form=ItemForm.PREPARED, encoding_id=made.encoding.encoding_id
            )
            tuned = _tune(client, output, read_configuration(f"{judge},prepared", normals), max_loss)
            if tuned.crf not in (None, made.encoding.options.crf):
                made = _make(client, output, dataset, replace(options, crf=tuned.crf))
        output.value(made if tuned is None else {"encoded": made, "tuning": tuned})
        if tuned is not None:
            _report(report, output, tuned, dataset, max_loss or 0.0)


def _make(client: Client, output: Output, dataset: str, options: EncodingOptions) -> EncodedDataset:
    made = follow(client.codec.encode_dataset(dataset, options=options), output, f"encoding {dataset}")
    encoding = made.encoding
    output.say(f"{made.background_description}")
    output.say(
        f"{encoding.encoding_id}: {encoding.item_count} items, {encoding.stored_bytes:,} bytes, "
        f"{len(encoding.unaligned)} unaligned"
    )
    output.table(["category", "items", "frames", "reference", "note"], map(_tell_category, encoding.categories))
    if encoding.unaligned:
        output.table(["unaligned", "reason"], encoding.unaligned.items())
    return made


def _tune(client: Client, output: Output, judge: Configuration, max_loss: float) -> CompressionTuning:
    operation = client.anomaly.tune_compression(judge, max_loss=max_loss)
    tuned = follow(operation, output, "finding the rate factor")
    output.table(["rate factor", "bytes a frame", "auroc", "loss", "95 %"], map(_tell_point, tuned.points))
    output.say(
        f"auroc on held-out normals and {'made-up ' if tuned.defect_strength else ''}defects: "
        f"{tuned.raw_auroc:.4f} as sent, {tuned.prepared_auroc:.4f} prepared"
    )
    if tuned.crf is None:
        output.warn(f"even rate factor {tuned.points[0].crf} costs more than {max_loss:g}; left as it was encoded")
    else:
        output.say(f"rate factor {tuned.crf} costs no more than {max_loss:g}")
    return tuned


def _report(wanted: Path | None, output: Output, tuned: CompressionTuning, dataset: str, max_loss: float) -> None:
    def write(folder: Path) -> Path:
        from mekiki.report.tuning import write_tuning  # noqa: PLC0415 -- it draws in OpenCV

        return write_tuning(tuned, dataset, max_loss, folder)

    make_report(wanted, output, tuned, write)


def _tell_point(point: RatePoint) -> list[str]:
    low, high = point.loss_interval
    told = [f"{point.auroc:.4f}", f"{point.loss:+.4f}", f"{low:+.4f} to {high:+.4f}"]
    return [str(point.crf), f"{point.frame_bytes:,.0f}", *told]


def _tell_category(one: EncodedCategory) -> tuple[str, int, str, str, str]:
    return one.category or "(one)", one.item_count, f"{one.width} x {one.height}", one.reference_item_id, one.reason
