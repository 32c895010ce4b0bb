"""Screws, tiles and steel in one data set, sorted by looks, beside the three apart (40 normal images of each).

Prepared as codec does it by default; apart, the textures as they are, for they show no part. Sizes are of all that is
stored. Random access: the median of reading single items.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from services.codec.changes import NewItem
from services.codec.model import Codec
from services.codec.reading import Selection
from services.codec.records import Record
from tests.bench.codec_lossless import SETS, Silent
from tests.bench.codec_reading import make_options, open_codec
from tests.bench.detectors import find_data
from tests.bench.figures import Figures
from tests.bench.preparing import Picture

EACH, READS = 40, 60


def main() -> None:
    """Measures, prints and writes build/bench/codec_mixed.json."""
    if not all(find_data(name).is_dir() for name in SETS):
        print("skipped: screw, tile and steel are not all there (set MEKIKI_TEST_DATA)")
        return
    figures = Figures("codec_mixed")
    pictures = {name: read_some(name) for name in SETS}
    apart, times = 0, []
    for name, some in pictures.items():
        with tempfile.TemporaryDirectory() as folder:
            codec, record = encode(Path(folder), {name: some})
            apart += record.stored_bytes
            times.append(time_reads(codec))
            figures.add(f"{name} apart", record.stored_bytes / 1000, "KB")
    with tempfile.TemporaryDirectory() as folder:
        codec, record = encode(Path(folder), pictures)
        add_mixed(figures, codec, record, apart)
        figures.add("reading one item, apart, mean of the medians", float(np.mean(times)), "ms")
        together = time_reads(codec)
        figures.add("reading one item, mixed, median", together, "ms", 1.2 * max(times), "lower")
    figures.finish()


def add_mixed(figures: Figures, codec: Codec, record: Record, apart: int) -> None:
    """Adds the size of the mixed set, and how its items were sorted."""
    figures.add("the three apart", apart / 1000, "KB")
    figures.add("mixed", record.stored_bytes / 1000, "KB", apart / 1000, "lower")
    figures.add("categories found", len(record.categories), "")
    items = codec.encodings.list_items(codec.datasets.open("parts"), record)
    for name in SETS:
        categories = [item.category for item in items.values() if item.item_id.startswith(name)]
        largest = max(set(categories), key=categories.count)
        figures.add(f"{name}: in its largest category", 100 * categories.count(largest) / len(categories), "%")


def read_some(name: str) -> list[Picture]:
    """Some normal images of a set, grey ones as such."""
    paths = sorted(find_data(name).glob(SETS[name]))
    read = [cv2.imread(str(paths[len(paths) * n // EACH]), cv2.IMREAD_UNCHANGED) for n in range(EACH)]
    return [one if one.ndim == 2 else cv2.cvtColor(one, cv2.COLOR_BGR2RGB) for one in read if one is not None]


def encode(folder: Path, pictures: dict[str, list[Picture]]) -> tuple[Codec, Record]:
    """A data set of all of them, encoded; several kinds by looks."""
    codec = open_codec(folder)
    codec.datasets.create("parts")
    codec.datasets.append(
        "parts",
        [NewItem(f"{name}-{n:03d}", one, one.nbytes) for name, some in pictures.items() for n, one in enumerate(some)],
    )
    options = make_options(16, background="contrast" if "screw" in pictures else "none")
    if len(pictures) > 1:
        options = replace(options, categories="looks")
    return codec, codec.encode("parts", options, Silent(), 2)


def time_reads(codec: Codec) -> float:
    """Median of reading one item at random, milliseconds."""
    names = [item.item_id for item in codec.find_items("parts", Selection(), prepared=True).items]
    times = []
    for number in np.random.default_rng(3).integers(len(names), size=READS):
        start = time.perf_counter()
        asked = codec.find_items("parts", Selection(item_ids=(names[int(number)],)), prepared=True)
        asked.reader.read(asked.items[0])
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


if __name__ == "__main__":
    main()
