"""Ten thousand bits flipped, one at a time, over all files of a data set: images, masks, lists, a prepared version.

After each, everything is read as a new process would read it, and scrubbed. A flip is detected where reading fails with
an error that names the item or the encoding, or where the scrub tells of it or mends it; harmless where all that is
read is as it was. What is read otherwise than it was, without an error, is undetected.
"""

import os
from pathlib import Path

import numpy as np

from services.codec.changes import NewItem
from services.codec.compact import Compactor
from services.codec.model import Codec
from services.codec.reading import Selection
from services.codec.scrub import Scrubber
from services.runtime.errors import DataLoss, MekikiError
from services.runtime.manifest import ManifestLog
from services.runtime.sealed import copy_of
from services.runtime.store import Store
from tests.bench.codec_lossless import Silent
from tests.bench.codec_reading import draw, make_options
from tests.bench.figures import Figures

FLIPS = int(os.environ.get("FLIPS", "10000"))
Read = dict[tuple[str, str], np.ndarray | MekikiError | None]


def main() -> None:
    """Measures, prints and writes build/bench/codec_damage.json."""
    figures, random = Figures("codec_damage"), np.random.default_rng(0)
    store = Store.open("memory://").prefixed("codec")
    fill(store)
    before, keys = read_everything(open_codec(store)), list_files(store)
    sizes = np.array([len(store.get(key)) for key in keys])
    counts = dict.fromkeys(("an item's error", "an encoding's error", "read from the copy", "none", "undetected"), 0)
    crashes = untold = 0
    for number in range(FLIPS):
        # Every other one anywhere; the rest in some file, so that small ones get their share.
        key = keys[int(random.choice(len(keys), p=sizes / sizes.sum() if number % 2 else None))]
        whole = store.get(key)
        bit = int(random.integers(8 * len(whole)))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        store.put(key, bytes(damaged))
        try:
            outcome = tell(read_everything(open_codec(store)), before, key)
            untold += not scrub(store)
        except Exception as error:  # noqa: BLE001 - to be counted
            print(f"{key}, bit {bit}: {error!r}")
            outcome, crashes = "undetected", crashes + 1
        counts[outcome] += 1
        store.put(key, whole)
    for outcome, count in counts.items():
        goal = {"undetected": 0.0}.get(outcome)
        figures.add(f"of {FLIPS} flips over {len(keys)} files: {outcome}", count, "flips", goal, "lower")
    figures.add("crashes", crashes, "flips", 0, "lower")
    figures.add("that the scrub did not tell of", untold, "flips", 0, "lower")
    figures.finish()


def fill(store: Store) -> None:
    """Exact images in every form, with masks, and a prepared version."""
    codec, random = open_codec(store), np.random.default_rng(1)
    codec.datasets.create("parts")
    mask = np.zeros((128, 128), np.uint8)
    mask[40:80, 50:90] = 255
    items = [NewItem(f"part-{n}", draw(n)[::4, ::4].copy(), 1, labels=("bolt",), mask=mask) for n in range(6)]
    codec.datasets.append("parts", items)
    Compactor(codec.datasets, Silent(), 1).compact("parts")
    shapes = [((20, 24, 3), np.uint8), ((21, 24), np.uint16), ((22, 24, 4), np.uint8), ((22, 24, 4), np.uint8)]
    late = [
        NewItem(f"late-{n}", random.integers(0, np.iinfo(dtype).max, shape, dtype), 1)
        for n, (shape, dtype) in enumerate(shapes)
    ]
    codec.datasets.append("parts", late)
    codec.encode("parts", make_options(4, background="contrast"), Silent(), 1)


def open_codec(store: Store) -> Codec:
    """As a new process would."""
    return Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [Path("/")])


def list_files(store: Store) -> list[str]:
    """All that is read of the newest version."""
    newest = max(key for key in store.list("datasets/parts/log") if key.endswith(".json"))
    alive = open_codec(store).datasets.open("parts").body["chunks"]
    others = [key for key in store.list("datasets/parts") if "/log/" not in key]
    lists = {chunk.rpartition("/")[2].removesuffix(".json") for chunk in alive}
    kept = [key for key in others if "/items/" not in key or key.rpartition("/")[2].partition(".")[0] in lists]
    used = {item.place.segment for item in open_codec(store).datasets.open("parts").items.values()}
    used |= {item.mask.segment for item in open_codec(store).datasets.open("parts").items.values() if item.mask}
    return [
        newest,
        copy_of(newest),
        *(key for key in kept if "/segments/" not in key or key.rpartition("/")[2].partition(".")[0] in used),
    ]


def read_everything(codec: Codec) -> Read:
    """Pixels, prepared pixels and masks of every item, or the error that each answers."""
    found: Read = {}
    for form in ("exact", "prepared"):
        try:
            asked = codec.find_items("parts", Selection(), prepared=form == "prepared")
        except DataLoss as error:
            found[form, ""] = error
            continue
        for item in asked.items:
            try:
                found[form, item.item_id] = asked.reader.read(item).pixels
                if form == "exact":
                    found["mask", item.item_id] = asked.read_mask(item)
            except MekikiError as error:
                found[form, item.item_id] = error
    return found


def tell(after: Read, before: Read, key: str) -> str:
    """What came of a flip."""
    errors = {name: value for name, value in after.items() if isinstance(value, MekikiError)}
    if any(name[1] and repr(name[1]) not in error.message for name, error in errors.items()):
        return "undetected"
    values = {name: value for name, value in after.items() if name not in errors}
    if not all(np.array_equal(value, before[name]) for name, value in values.items() if value is not None):
        return "undetected"
    if ("prepared", "") in errors:
        return "an encoding's error"
    if errors:
        return "an item's error"
    return "read from the copy" if key.endswith(".json") and "/encodings/" not in key else "none"


def scrub(store: Store) -> bool:
    """Whether the scrub tells of damage, or mends it."""
    codec = open_codec(store)
    findings = Scrubber(codec.datasets, codec.encodings, store, Silent(), 1).scrub("parts")
    return bool(findings.damages or findings.mended_count)


if __name__ == "__main__":
    main()
