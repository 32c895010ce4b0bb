"""The second half of the demonstration: boxes and outlines that nobody drew."""

from dataclasses import dataclass, replace
from pathlib import Path

from mekiki import Client
from mekiki.demo import boxes, masks, steps
from mekiki.demo.narrator import Narrator
from mekiki.demo.results import Boxes, Masks
from mekiki.demo.source import Labelled, Source


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the second half found: boxes and outlines, or why there are none."""

    boxes: Boxes | None = None
    boxes_skipped: str = ""
    masks: Masks | None = None
    masks_skipped: str = ""
    classifier_weights: str = ""


def draw_from_labels(
    client: Client,
    dataset: str,
    source: Source,
    labelled: Labelled | None,
    weights: steps.Weights,
    narrator: Narrator,
    out: Path,
) -> Drawn:
    """Draw boxes and outlines: on `labelled` images, which are put into the data set, else on its test images.

    Raises:
        MekikiError: a service answered with an error.
    """
    if labelled is None:
        task, reason = boxes.plan_test_images(dataset, source.test)
        if task is None:
            return Drawn(boxes_skipped=reason, masks_skipped=masks.OWN_IMAGES)
    else:
        with narrator.step("Store the labelled images", len(labelled.photos)) as bar:
            steps.push_photos(client, dataset, labelled.photos, bar)
        task = boxes.plan_labelled(dataset, labelled)
    drawn, classifier = boxes.draw_boxes(client, dataset, task, weights, narrator, out)
    told = Drawn(drawn, classifier_weights=classifier.weights.description)
    if labelled is None:
        return replace(told, masks_skipped=masks.OWN_IMAGES)
    if weights.complaint:
        return replace(told, masks_skipped=masks.NO_WEIGHTS)
    return replace(told, masks=masks.draw_masks(client, dataset, task, labelled, weights, narrator))
