"""Commands that delete: a data set, a detector, a classifier, an object detector, a segmenter."""

from collections.abc import Callable
from typing import Annotated

import typer

from mekiki import Client
from mekiki.cli.codes import EPILOG
from mekiki.cli.datasets import DatasetName
from mekiki.cli.detection import ObjectDetectorName
from mekiki.cli.detectors import DetectorName
from mekiki.cli.models import ClassifierName
from mekiki.cli.plain import safe
from mekiki.cli.segmentation import SegmenterName
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session

delete = typer.Typer(
    no_args_is_help=True,
    help="Delete a data set, a detector, a classifier, an object detector or a segmenter, with all that is in it.",
)

Yes = Annotated[bool, typer.Option("--yes", help="Delete without asking.")]


@delete.command(epilog=EPILOG)
def dataset(name: DatasetName, *, yes: Yes = False, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Delete a data set with its items and encodings."""
    _delete("dataset", name, lambda client: client.codec.delete_dataset(name), yes=yes, address=address, json=json)


@delete.command(epilog=EPILOG)
def detector(name: DetectorName, *, yes: Yes = False, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Delete a detector with all its versions and their banks, or one version (screws@7) that does not serve."""
    _delete("detector", name, lambda client: client.anomaly.delete_detector(name), yes=yes, address=address, json=json)


@delete.command(epilog=EPILOG)
def classifier(
    name: ClassifierName, *, yes: Yes = False, address: Address = DEFAULT_ADDRESS, json: Json = False
) -> None:
    """Delete a classifier with all its versions."""
    _delete(
        "classifier", name, lambda client: client.saliency.delete_classifier(name), yes=yes, address=address, json=json
    )


@delete.command("object-detector", epilog=EPILOG)
def object_detector(
    name: ObjectDetectorName, *, yes: Yes = False, address: Address = DEFAULT_ADDRESS, json: Json = False
) -> None:
    """Delete an object detector with all its versions."""
    _delete(
        "object-detector",
        name,
        lambda client: client.saliency.delete_object_detector(name),
        yes=yes,
        address=address,
        json=json,
    )


@delete.command(epilog=EPILOG)
def segmenter(name: SegmenterName, *, yes: Yes = False, address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """Delete a segmenter with all its versions."""
    _delete(
        "segmenter", name, lambda client: client.saliency.delete_segmenter(name), yes=yes, address=address, json=json
    )


def _delete(kind: str, name: str, call: Callable[[Client], None], *, yes: bool, address: str, json: bool) -> None:
    with session(address, json=json) as (client, output):
        if not (yes or _confirm(f"Delete {kind} {safe(name)} for good?")):
            raise ValueError("nothing was deleted; --yes deletes without asking")
        call(client)
        output.say(f"{kind} {name}: deleted")
        output.value({"deleted": kind, "name": name})


def _confirm(question: str) -> bool:
    """Asks on standard error; where nobody can answer, the answer is no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False
