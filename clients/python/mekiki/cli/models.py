"""Commands that ask models: score, classify, explain."""

from pathlib import Path
from typing import Annotated

import typer

from mekiki import Classification, ExplainMethod, Explanation, ScoredImage
from mekiki.cli.codes import ExitCode
from mekiki.cli.detectors import Category, DetectorName
from mekiki.cli.folder import list_images
from mekiki.cli.frames import Gallery, paint_all
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, session

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders of them.")]
ClassifierName = Annotated[str, typer.Argument(metavar="CLASSIFIER", help="Name of the classifier.")]
Scales = Annotated[
    list[float] | None, typer.Option(help="Scale of the network's input to average over, 1 by itself; may be repeated.")
]


def score(
    detector: DetectorName,
    images: Images,
    *,
    category: Category = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the images with their heat maps over them.")] = None,
    fail_on_anomaly: Annotated[bool, typer.Option("--fail-on-anomaly", help="Exit with 1 on any anomaly.")] = False,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Judge images: is this part normal, and if not, where?

    Without --category each is judged as the one of the detector's categories that it scores lowest in.
    """

    def describe(scored: ScoredImage) -> list[dict[str, object]]:
        verdict = scored.verdict or "not calibrated"
        return [{"score": scored.score, "verdict": verdict, "aligned": scored.aligned, "category": scored.category}]

    with session(address, json=json) as (client, output):
        gallery = Gallery(output, list_images(images), describe)
        side = None if out else 0
        answers = client.anomaly.score_images(detector, gallery.frames(), heatmap_side=side, category=category)
        gallery.show(f"scoring with {detector}", answers)
        if out:
            strongest = max((float(s.heatmap.values.max()) for s in gallery.values.values() if s.heatmap), default=1.0)
            paint_all(out, {path: (s.heatmap, strongest) for path, s in gallery.values.items()}, output)
        anomalous = sum(scored.is_anomalous for scored in gallery.values.values())
        output.say(f"{anomalous} of {len(gallery.values)} anomalous")
        if fail_on_anomaly and anomalous:
            raise typer.Exit(ExitCode.FOUND)


def classify(
    classifier: ClassifierName, images: Images, *, address: Address = DEFAULT_ADDRESS, json: Json = False
) -> None:
    """Say what is in images."""

    def describe(said: Classification) -> list[dict[str, object]]:
        return [{"label": said.label, "probability": said.labels[0].score}]

    with session(address, json=json) as (client, output):
        gallery = Gallery(output, list_images(images), describe)
        gallery.show(f"asking {classifier}", client.saliency.classify_images(classifier, gallery.frames()))


def explain(  # noqa: PLR0913 -- a command's options
    classifier: ClassifierName,
    images: Images,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the images with their heat maps over them.")],
    label: Annotated[str, typer.Option(help="What to explain; default the most probable label.")] = "",
    method: Annotated[ExplainMethod | None, typer.Option(help="Default CAM where the head allows it.")] = None,
    scale: Scales = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average over mirror images, too.")] = False,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Paint which pixels of images speak for a label."""

    def describe(explanation: Explanation) -> list[dict[str, object]]:
        return [{"label": explanation.label, "probability": explanation.score, "method": explanation.method}]

    with session(address, json=json) as (client, output):
        gallery = Gallery(output, list_images(images), describe)
        answers = client.saliency.explain_images(
            classifier, gallery.frames(), label=label, method=method, scales=scale or (), flip=flip
        )
        gallery.show(f"asking {classifier}", answers)
        paint_all(out, {path: (said.heatmap, 1.0) for path, said in gallery.values.items()}, output)
