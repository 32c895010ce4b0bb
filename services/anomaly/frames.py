"""From an image as it comes to what the network sees, and back to the pixels of the image as sent."""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.runtime.errors import InvalidArgument

_STRIDE_PX = 32
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)  # of ImageNet, as every timm network of ours expects
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_NORMAL = ((np.arange(256, dtype=np.float32)[:, None, None] / 255 - _MEAN) / _DEVIATION).astype(np.float32)
"""(256, 1, 3) what the network sees for a value of each channel."""


_Pixel = TypeVar("_Pixel", bound=np.generic)


@dataclass(frozen=True)
class Box:
    """Half-open pixel box, origin top left."""

    x0: int
    y0: int
    x1: int
    y1: int

    def cut(self, image: NDArray[_Pixel]) -> NDArray[_Pixel]:
        """The part of `image` (h, w, ...) inside the box."""
        return image[self.y0 : self.y1, self.x0 : self.x1]


@dataclass(frozen=True)
class Placement:
    """Where a prepared frame came from."""

    affine: NDArray[np.float64]  # (2, 3), from pixels of the image as sent to pixels of the frame
    shape: tuple[int, int]  # (h, w) of the image as sent


@dataclass(frozen=True)
class Framing:
    """Which part of an image a detector looks at, fixed when it was trained."""

    mask: NDArray[np.bool_] | None = None  # (h, w) of every prepared frame; None: images as sent, of any shape

    def cut(self, image: NDArray[np.generic]) -> NDArray[np.uint8]:
        """The pixels (h, w) or (h, w, 3) that count: the box around the mask, or all.

        Raises:
            InvalidArgument: no image, or a prepared one of another shape than the mask.
        """
        pixels = narrow(image)
        box = self.box()
        if self.mask is None or box is None:
            return pixels
        if pixels.shape[:2] != self.mask.shape:
            raise InvalidArgument("image", f"must be prepared to {self.mask.shape}, got {pixels.shape[:2]}")
        return np.ascontiguousarray(box.cut(pixels))

    def cut_mask(self) -> NDArray[np.bool_] | None:
        """The mask inside its box."""
        box = self.box()
        return None if self.mask is None or box is None else np.ascontiguousarray(box.cut(self.mask))

    def find_part(self, placement: Placement) -> NDArray[np.bool_] | None:
        """Where in an image as sent, (h, w), a detector looks; None where that is everywhere."""
        if self.mask is None:
            return None
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        height, width = placement.shape
        part = np.asarray(
            cv2.warpAffine(self.mask.astype(np.uint8), placement.affine, (width, height), flags=flags) > 0
        )
        return None if part.all() else part

    def box(self) -> Box | None:
        """What `cut` keeps of a prepared frame; None: everything."""
        return None if self.mask is None else bound_mask(self.mask)


def narrow(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(h, w), (h, w, 3) or (h, w, 4), uint8 or uint16 -> (h, w) or (h, w, 3) uint8; alpha dropped.

    Raises:
        InvalidArgument: another shape or type, or no pixel at all.
    """
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise InvalidArgument("image", f"must be (h, w), (h, w, 3) or (h, w, 4) and not empty, got {image.shape}")
    if image.dtype not in (np.uint8, np.uint16):
        raise InvalidArgument("image", f"must be uint8 or uint16, got {image.dtype}")
    shallow = image >> 8 if image.dtype == np.uint16 else image  # type: ignore[operator]
    return np.ascontiguousarray(shallow[:, :, :3] if image.ndim == 3 else shallow, dtype=np.uint8)


def to_pixels(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """As `narrow`, with grey repeated: (h, w, 3)."""
    narrowed = narrow(image)
    return narrowed if narrowed.ndim == 3 else cv2.merge([narrowed] * 3).astype(np.uint8, copy=False)


def fit_longer_side(shape: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Multiples of 32 of about the aspect ratio of `shape` (h, w), the longer one about `side_px`."""
    return _round_to_stride(shape, side_px / max(shape))


def fit_area(shape: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Multiples of 32 of about the aspect ratio of `shape` (h, w), in area about a square of `side_px`."""
    return _round_to_stride(shape, side_px / float(np.sqrt(shape[0] * shape[1])))


def _round_to_stride(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    rows, columns = (max(1, round(extent * scale / _STRIDE_PX)) for extent in shape)
    return rows * _STRIDE_PX, columns * _STRIDE_PX


def resize(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """`image` (h, w[, 3]) at `shape` (h, w): by area when it shrinks, bilinearly when it grows."""
    if image.shape[:2] == shape:
        return image
    method = cv2.INTER_AREA if shape[0] * shape[1] < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(image, (shape[1], shape[0]), interpolation=method).astype(np.uint8)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(h, w), (h, w, 3) or (n, h, w, 3) uint8 -> (n, 3, h, w) float32, normalised as ImageNet networks expect it."""
    images = pixels if pixels.ndim == 4 else to_pixels(pixels)[None]
    rows = images.reshape(-1, *images.shape[2:])  # images one below the other: a table is looked up in two dimensions
    normal = cv2.LUT(rows, _NORMAL).reshape(images.shape)
    # In memory the channels stay last, as in the networks: on a CPU that is nearly twice as fast.
    return torch.from_numpy(normal).permute(0, 3, 1, 2)


def shrink_mask(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells of a `grid` (rows, columns) laid over `mask` (h, w) belong to it by at least half their area."""
    share = cv2.resize(mask.astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.5)


def heatmap_shape(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """(rows, columns) of a map over an image of `shape` (h, w) whose longer side has `side` cells."""
    return max(1, round(shape[0] * side / max(shape))), max(1, round(shape[1] * side / max(shape)))


def lay_out_heatmap(
    coarse: NDArray[np.float32], framing: Framing, placement: Placement, side: int
) -> NDArray[np.float32]:
    """A coarse heat map over what `framing` cuts out of the frame -> over the image as sent; 0 where the frame is not.

    Args:
        coarse: (rows, columns), covering the box of the framing, or the whole image where there is none.
        framing: of the detector.
        placement: how the frame came from the image.
        side: cells of the longer side of the result, whose aspect ratio is the image's.
    """
    height, width = placement.shape
    rows, columns = heatmap_shape(placement.shape, side)
    to_image = _scale_pixels(width / columns, height / rows)  # from cells of the result to pixels of the image
    to_frame = np.vstack([placement.affine, [0, 0, 1]])
    box = framing.box() or Box(0, 0, width, height)
    to_coarse = _scale_pixels(coarse.shape[1] / (box.x1 - box.x0), coarse.shape[0] / (box.y1 - box.y0))
    to_box = np.array([[1, 0, -box.x0], [0, 1, -box.y0], [0, 0, 1]], dtype=np.float64)
    whole = (to_coarse @ to_box @ to_frame @ to_image)[:2]
    # A border of one cell, so that interpolation does not fade the outermost half cell out.
    padded = np.pad(coarse, 1, mode="edge")
    whole[:, 2] += 1
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    heatmap = cv2.warpAffine(padded, whole, (columns, rows), flags=flags)
    return np.maximum(heatmap, 0).astype(np.float32)


def _scale_pixels(x: float, y: float) -> NDArray[np.float64]:
    """(3, 3) from one grid of pixels to another whose pixels are 1 / x by 1 / y as large; centres are whole numbers."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]], dtype=np.float64)


def bound_mask(mask: NDArray[np.bool_]) -> Box:
    """The smallest box that holds every true pixel; the whole image where there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return Box(0, 0, mask.shape[1], mask.shape[0])
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def bound_hot_spot(heatmap: NDArray[np.float32]) -> Box | None:
    """The box of the connected region around the hottest pixel in which the heat is at least half of it."""
    peak = float(heatmap.max())
    if peak <= 0:
        return None
    _, labels = cv2.connectedComponents((heatmap >= peak / 2).astype(np.uint8), connectivity=8)
    hottest = labels[np.unravel_index(int(heatmap.argmax()), heatmap.shape)]
    return bound_mask(labels == hottest)
