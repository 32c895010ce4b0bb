"""The pictures that peers and ours are trained on and judged on: the same pixels, written out without loss."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import mekiki
from mekiki.cli.folder import ImageFile, read_folder
from services.anomaly.frames import Framing, fit_longer_side, resize, to_pixels
from tests.bench.detectors import find_data, push, serving

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """A training set of normals and a test set."""

    name: str
    train: list[Path]
    test: list[Path]
    is_bad: NDArray[np.bool_]  # of the test
    masks: list[Path | None]  # of the test; all None: no pixel truth
    framing: Framing
    shape: tuple[int, int]  # (h, w) that they are judged at


def gather_tiles(folder: Path, side_px: int) -> Pictures:
    """Tiles, stretched to squares beforehand, with pixel truth."""
    files = read_folder(find_data("tile")).files
    squares = (resize(read(file.path), (side_px, side_px)) for file in files)
    return _write("tile", folder, files, squares, Framing(), side_px)


def gather_screws(folder: Path, side_px: int) -> Pictures:
    """Screws as they are, of 1024 px."""
    files = read_folder(find_data("screw")).files
    return _write("screw", folder, files, (read(file.path) for file in files), Framing(), side_px)


def prepare_screws(folder: Path, side_px: int) -> Pictures:
    """Screws aligned and blanked by our codec, cut to the box around the mask."""
    files = read_folder(find_data("screw")).files
    with serving() as client:
        push(client, "screw", find_data("screw"))
        options = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST)
        encoding = client.codec.encode_dataset("screw", options=options).result(1800).encoding
        whole = Framing(encoding.categories[0].mask)
        references = (mekiki.ItemRef("screw", file.item_id) for file in files)
        answers = client.codec.prepare_images("screw", references, encoding_id=encoding.encoding_id)
        frames = (to_pixels(whole.cut(answer.value.pixels)) for answer in answers)
        return _write("prepared screw", folder, files, frames, Framing(whole.cut_mask()), side_px)


def read(path: Path) -> Pixels:
    """(h, w, 3), RGB."""
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


def _write(
    name: str, folder: Path, files: Iterable[ImageFile], images: Iterable[Pixels], framing: Framing, side_px: int
) -> Pictures:
    written: list[tuple[ImageFile, Path]] = []
    shape = (side_px, side_px)
    for file, image in zip(files, images, strict=True):
        path = folder / f"{len(written):04d}.png"
        cv2.imwrite(str(path), image[:, :, ::-1])
        written.append((file, path))
        shape = fit_longer_side(image.shape[:2], side_px)
    test = [(file, path) for file, path in written if file.split == "test"]
    return Pictures(
        name=name,
        train=[path for file, path in written if file.split == "train"],
        test=[path for _, path in test],
        is_bad=np.array([file.label != "good" for file, _ in test]),
        masks=[file.mask for file, _ in test],
        framing=framing,
        shape=shape,
    )
