"""Exact images: how small, beside the formats that people use (screw, tile, steel; all compared on the same files).

Ours is what a data set takes once compacted, all of it: pixels, indexes and their copies. The others are the images
alone: optimised PNG and WebP by Pillow, JPEG XL by libjxl at its default effort, FFV1 frame by frame. Every pixel is
compared with what was appended.
"""

import io
import os
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from services.codec.changes import NewItem
from services.codec.compact import Compactor
from services.codec.dataset import Datasets
from services.codec.video_encode import can_encode, encode_exact
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from tests.bench.detectors import find_data
from tests.bench.figures import Figures
from tests.bench.peers.surroundings import find_python
from tests.bench.preparing import Picture

IMAGES = int(os.environ.get("IMAGES", "96"))
SETS = {"screw": "train/good/*.png", "tile": "train/good/*", "steel": "train/*/*"}


class Silent:
    """A progress that nobody follows."""

    def report(self, phase: str, done: int, total: int) -> None:
        """Does nothing."""

    def save(self, notes: bytes) -> None:
        """Does nothing."""

    def load(self) -> bytes | None:
        """Returns nothing."""


def main() -> None:
    """Measures, prints and writes build/bench/codec_lossless.json."""
    figures = Figures("codec_lossless")
    python = find_python("jxl.txt")
    for name, pattern in SETS.items():
        paths = sorted(find_data(name).glob(pattern))
        paths = [paths[len(paths) * number // IMAGES] for number in range(min(IMAGES, len(paths)))]
        if not paths:
            print(f"skipped: {find_data(name)} does not exist (set MEKIKI_TEST_DATA)")
            continue
        add_set(figures, name, [read(path) for path in paths], python)
    figures.finish()


def add_set(figures: Figures, name: str, pictures: list[Picture], python: Path | None) -> None:
    """Adds the sizes of a set of pictures, as parts of what optimised PNG takes."""
    sizes = {
        "PNG": sum(size_by_pillow(one, "PNG", optimize=True) for one in pictures),
        "WebP": sum(size_by_pillow(one, "WEBP", lossless=True, quality=100, method=6) for one in pictures),
        "FFV1": size_ffv1(pictures),
    }
    if python is not None:
        sizes["JPEG XL"] = size_jxl(pictures, python)
    appended, compacted = size_ours(pictures)
    figures.add(f"{name}: {len(pictures)} images as optimised PNG", sizes["PNG"] / 1000, "KB")
    for kind, size in sizes.items():
        figures.add(f"{name}: {kind}", 100 * size / sizes["PNG"], "% of PNG")
    figures.add(f"{name}: ours as appended", 100 * appended / sizes["PNG"], "% of PNG")
    figures.add(f"{name}: ours compacted", 100 * compacted / sizes["PNG"], "% of PNG")
    figures.add(f"{name}: ours / the best of them", 100 * compacted / min(sizes.values()), "%", 101.0, "lower")


def read(path: Path) -> Picture:
    """Grey, or RGB; of a file that says RGB and holds grey, too, as it is."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path} cannot be read")
    return np.asarray(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def size_by_pillow(picture: Picture, kind: str, **options: object) -> int:
    """Bytes of a file that Pillow writes."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, **options)
    return len(out.getvalue())


def size_ffv1(pictures: list[Picture]) -> int:
    """Bytes of a video for each shape, every frame by itself."""
    alike: dict[tuple[int, ...], list[Picture]] = defaultdict(list)
    for picture in pictures:
        alike[picture.shape].append(picture)
    return sum(len(encode_exact(group).data) for group in alike.values() if can_encode(group[0]))


def size_jxl(pictures: list[Picture], python: Path) -> int:
    """Bytes of JPEG XL files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, picture in enumerate(pictures):
            paths.append(str(Path(folder) / f"{number}.png"))
            Image.fromarray(picture).save(paths[-1])
        child = Path(__file__).parent / "peers" / "jxl_child.py"
        text = "\n".join(paths) + "\n"
        ran = subprocess.run([python, child], input=text, capture_output=True, text=True, check=True)
    return sum(map(int, ran.stdout.split()))


def size_ours(pictures: list[Picture]) -> tuple[int, int]:
    """Bytes in the store as appended, 64 at a time, and compacted; raises ValueError where a pixel is not as it was."""
    store = Store.open("memory://")
    datasets = Datasets(store, lambda prefix: ManifestLog(store, prefix, has_copies=True))
    datasets.create("set")
    items = [NewItem(f"{number:04d}", picture, picture.nbytes) for number, picture in enumerate(pictures)]
    for start in range(0, len(items), 64):
        datasets.append("set", items[start : start + 64])
    compaction = Compactor(datasets, Silent(), 2).compact("set")
    snapshot = datasets.open("set")
    for item in items:
        if not np.array_equal(datasets.read_pixels(snapshot, snapshot.items[item.item_id]), item.pixels):
            raise ValueError(f"{item.item_id} is not as it was")
    return compaction.bytes_before, compaction.bytes_after


if __name__ == "__main__":
    main()
