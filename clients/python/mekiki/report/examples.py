"""The items that tell most of a detector: fetched, judged once more for their heat maps, and shown."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mekiki import Client, ItemFilter, ItemRef, ItemScore
from mekiki.report.album import Album, Card
from mekiki.report.pictures import Box, Pixels, as_8bit, draw_box, overlay_heat

HEATMAP_SIDE = 256


@dataclass(frozen=True)
class Choice:
    """Items to show, the most telling first."""

    misses: tuple[ItemScore, ...]  # anomalies with the lowest scores: those called normal, where there is a threshold
    false_alarms: tuple[ItemScore, ...]  # normals with the highest scores, likewise
    found: tuple[ItemScore, ...]  # anomalies with the highest scores
    passed: tuple[ItemScore, ...]  # normals with the lowest scores

    def __iter__(self) -> Iterator[ItemScore]:
        """All of them, each once."""
        kinds = (self.misses, self.false_alarms, self.found, self.passed)
        return iter({item.item_id: item for kind in kinds for item in kind}.values())


def choose(
    scores: Sequence[ItemScore], normal_labels: AbstractSet[str], thresholds: Mapping[str, float], count: int = 6
) -> Choice:
    """Which items to show: at most `count` of a kind, and half as many of those that were judged rightly.

    `thresholds` are by category; an item of one that has none may be wrong.
    """
    ordered = sorted(scores, key=lambda item: item.score)
    normal = [item for item in ordered if item.label in normal_labels]
    bad = [item for item in ordered if item.label not in normal_labels]

    def is_wrong(item: ItemScore) -> bool:
        threshold = thresholds.get(item.category)
        return threshold is None or (item.score > threshold) == (item.label in normal_labels)

    misses = tuple(item for item in bad if is_wrong(item))[:count]
    alarms = tuple(item for item in normal[::-1] if is_wrong(item))[:count]
    found = tuple(item for item in bad[::-1] if item not in misses)[: count // 2]
    return Choice(misses, alarms, found, tuple(item for item in normal if item not in alarms)[: count // 2])


@dataclass(frozen=True, eq=False)
class Example:
    """An item with its heat map, in the pixels of the image as it came."""

    item: ItemScore
    pixels: Pixels
    heatmap: NDArray[np.float32] | None = None
    region: Box | None = None


def fetch_examples(client: Client, detector: str | None, dataset: str, choice: Choice) -> dict[str, Example]:
    """By item identifier, without heat maps where there is no detector; an item that is gone since is left out."""
    items = {item.item_id: item for item in choice}
    if not items:
        return {}
    found = {}
    for read in client.codec.read_items(ItemFilter(dataset, item_ids=list(items))):
        name = read.item.item_id
        if detector is None:
            found[name] = Example(items[name], as_8bit(read.pixels))
            continue
        judged = client.anomaly.score_image(detector, ItemRef(dataset, name), heatmap_side=HEATMAP_SIDE)
        box = judged.region
        region = None if box is None else (box.x_min, box.y_min, box.x_max, box.y_max)
        heat = None if judged.heatmap is None else judged.heatmap.values
        found[name] = Example(items[name], as_8bit(read.pixels), heat, region)
    return found


@dataclass(frozen=True)
class Shown:
    """Cards by kind."""

    misses: list[Card]
    false_alarms: list[Card]
    found: list[Card]
    passed: list[Card]


def show(choice: Choice, examples: dict[str, Example], album: Album) -> Shown:
    """Return the cards, all heat maps on one scale."""
    scale = _scale(choice, examples)

    def cards(kind: str, items: Sequence[ItemScore], *, wrong: bool) -> list[Card]:
        there = [examples[item.item_id] for item in items if item.item_id in examples]
        return [_card(one, f"{kind}-{n}", album, scale, is_wrong=wrong) for n, one in enumerate(there, 1)]

    return Shown(
        misses=cards("miss", choice.misses, wrong=True),
        false_alarms=cards("alarm", choice.false_alarms, wrong=True),
        found=cards("found", choice.found, wrong=False),
        passed=cards("passed", choice.passed, wrong=False),
    )


def _scale(choice: Choice, examples: dict[str, Example]) -> tuple[float, float]:
    """Heat from where colour begins, which is what normals show, to where it is full: half of the anomalies' peaks."""

    def maps(*kinds: Sequence[ItemScore]) -> list[NDArray[np.float32]]:
        there = [examples[item.item_id] for kind in kinds for item in kind if item.item_id in examples]
        return [example.heatmap for example in there if example.heatmap is not None]

    normal, bad = maps(choice.passed, choice.false_alarms), maps(choice.found, choice.misses)
    low = float(np.median([np.percentile(heat, 95) for heat in normal])) if normal else 0.0
    high = float(np.median([heat.max() for heat in bad])) if bad else 0.0
    return low, max(high, low * 1.25, 1e-12)


def _card(example: Example, name: str, album: Album, scale: tuple[float, float], *, is_wrong: bool) -> Card:
    item = example.item
    shots = [album.add(name, example.pixels, f"{item.label}, as it came")]
    if example.heatmap is not None:
        warm = overlay_heat(example.pixels, example.heatmap, *scale)
        warm = warm if example.region is None else draw_box(warm, example.region, (255, 255, 255))
        shots.append(album.add(f"{name}-heat", warm, f"{item.label}, with its heat map"))
    remarks = [f"judged as {item.category}"] if item.category else []
    remarks += [] if item.aligned else ["did not align to the reference"]
    return Card(tuple(shots), item.label, f"{item.score:.3g}", ", ".join(remarks), is_wrong, item.item_id)
