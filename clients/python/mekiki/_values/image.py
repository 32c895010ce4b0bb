"""Images, maps and masks: numpy on this side, bytes on the other."""

import io
from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mekiki._wire.runs import from_runs
from mekiki._wire.trimap import Trimap
from mekiki.errors import Internal
from mekiki.types.v1 import types_pb2

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Array = NDArray[Any]

_DTYPES = {"uint8": types_pb2.DATA_TYPE_UINT8, "uint16": types_pb2.DATA_TYPE_UINT16}
_NUMPY_DTYPES: dict[int, np.dtype[Any]] = {
    types_pb2.DATA_TYPE_UINT8: np.dtype("<u1"),
    types_pb2.DATA_TYPE_UINT16: np.dtype("<u2"),
}
# How Pillow's modes are brought to grey, RGB or RGBA: just as the services do it with a file that they decode.
_PILLOW_MODES = {"1": "L", "L": "L", "P": "RGBA", "LA": "RGBA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
_PILLOW_MODES |= {"RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "I;16": "I;16"}


class MaskFormat(StrEnum):
    """How a service is to send masks; either way they are arrays here."""

    RLE = "rle"
    """Run lengths."""

    PNG = "png"


class ItemForm(StrEnum):
    """Which pixels of a stored item are meant."""

    ORIGINAL = "original"
    """As they were appended, exact."""

    PREPARED = "prepared"
    """Of an encoding: aligned to its reference, blanked outside its mask, decoded from HEVC."""

    def to_proto(self) -> types_pb2.ItemForm.ValueType:
        """For the wire."""
        return types_pb2.ITEM_FORM_PREPARED if self is ItemForm.PREPARED else types_pb2.ITEM_FORM_ORIGINAL


@dataclass(frozen=True)
class ItemRef:
    """An image that codec holds: an item of a data set."""

    dataset: str
    item_id: str
    form: ItemForm = ItemForm.ORIGINAL
    encoding_id: str = ""
    """For prepared pixels: which encoding; empty means the newest."""

    def to_proto(self) -> types_pb2.ItemRef:
        """For the wire."""
        return types_pb2.ItemRef(
            dataset=self.dataset, item_id=self.item_id, form=self.form.to_proto(), encoding_id=self.encoding_id
        )


ImageLike: TypeAlias = "Array | PillowImage | bytes | str | PathLike[str] | ItemRef | types_pb2.Image"
"""Pixels (uint8 or uint16, (h, w) or (h, w, 1|3|4), RGB), a Pillow image, an encoded file's bytes or path, an item."""


def to_image(image: ImageLike) -> types_pb2.Image:
    """The image as it is sent. Files and bytes are sent as they are and decoded by the service.

    Raises:
        TypeError: for something that is no image, or an array of another dtype.
        ValueError: for an array of another shape.
        OSError: for a path that cannot be read.
    """
    match image:
        case types_pb2.Image():
            return image
        case ItemRef():
            return types_pb2.Image(item=image.to_proto())
        case bytes():
            return types_pb2.Image(encoded=image)
        case str() | PathLike():
            return types_pb2.Image(encoded=Path(image).read_bytes())
        case np.ndarray():
            return types_pb2.Image(tensor=_to_tensor(image))
    return types_pb2.Image(tensor=_to_tensor(_from_pillow(image)))


def _to_tensor(pixels: Array) -> types_pb2.Tensor:
    dtype = _DTYPES.get(pixels.dtype.newbyteorder("=").name)
    if dtype is None:
        raise TypeError(f"an image's dtype must be uint8 or uint16, not {pixels.dtype}")
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        raise ValueError(f"an image's shape must be (h, w) or (h, w, 1|3|4) and not empty, not {pixels.shape}")
    data = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    return types_pb2.Tensor(dtype=dtype, shape=pixels.shape, data=data)


def _from_pillow(image: "PillowImage") -> Array:
    mode = _PILLOW_MODES.get(getattr(image, "mode", ""))
    if mode is None:
        kind = f"a Pillow image of mode {image.mode}" if hasattr(image, "mode") else type(image).__name__
        raise TypeError(f"expected an array, a Pillow image, bytes, a path or an ItemRef, not {kind}")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def from_image(image: types_pb2.Image) -> Array:
    """The pixels of an image that a service sent, (h, w) or (h, w, 1|3|4) uint8 or uint16; read-only."""
    tensor = image.tensor
    dtype = _NUMPY_DTYPES.get(tensor.dtype)
    if dtype is None or np.prod(tensor.shape) * dtype.itemsize != len(tensor.data):
        raise Internal(f"the service sent a tensor of shape {list(tensor.shape)} with {len(tensor.data)} bytes")
    pixels: Array = np.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))
    return pixels


@dataclass(frozen=True, eq=False)
class Heatmap:
    """A soft map over a whole image, however coarse its grid is."""

    values: NDArray[np.float32]  # (h, w) float32, >= 0

    @classmethod
    def from_proto(cls, heatmap: types_pb2.Heatmap) -> "Heatmap":
        """From the wire."""
        return cls(np.frombuffer(heatmap.values, np.dtype("<f4")).reshape(heatmap.height, heatmap.width))

    def to_proto(self) -> types_pb2.Heatmap:
        """For the wire."""
        return to_heatmap(self.values)

    def resized(self, width: int, height: int) -> NDArray[np.float32]:
        """The map at another size, interpolated linearly between the centres of its cells, (height, width) float32."""
        return _resize_axis(_resize_axis(self.values, height, 0), width, 1)


def _resize_axis(values: NDArray[np.float32], length: int, axis: int) -> NDArray[np.float32]:
    last = values.shape[axis] - 1
    at = np.clip((np.arange(length) + 0.5) * values.shape[axis] / length - 0.5, 0, last)
    low = np.floor(at).astype(np.intp)
    share = (at - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
    below, above = values.take(low, axis), values.take(np.minimum(low + 1, last), axis)
    resized: NDArray[np.float32] = below + (above - below) * share
    return resized


def to_heatmap(values: Array) -> types_pb2.Heatmap:
    """A soft map for the wire, from (h, w) of any real dtype."""
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a heat map's shape must be (h, w) and not empty, not {values.shape}")
    height, width = values.shape
    return types_pb2.Heatmap(width=width, height=height, values=values.astype("<f4").tobytes())


def to_mask(mask: Array) -> types_pb2.Mask:
    """A binary map for the wire, from (h, w) bool."""
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"a mask's shape must be (h, w) and not empty, not {mask.shape}")
    return types_pb2.Mask(png=_write_png(mask.astype(np.uint8) * np.uint8(255)))


def to_trimap(trimap: Array) -> types_pb2.Trimap:
    """A map of which only some is known for the wire, from (h, w) of the values of `Trimap`."""
    if trimap.ndim != 2 or trimap.size == 0:
        raise ValueError(f"a trimap's shape must be (h, w) and not empty, not {trimap.shape}")
    strange = ~np.isin(trimap, list(Trimap))
    if strange.any():
        values = ", ".join(map(str, Trimap))
        raise ValueError(f"a trimap must hold the values {values} alone, not {trimap[strange][0]}")
    return types_pb2.Trimap(png=_write_png(trimap.astype(np.uint8)))


def from_trimap(trimap: types_pb2.Trimap) -> NDArray[np.uint8]:
    """The map that a service sent, (h, w) uint8 of the values of `Trimap`."""
    from PIL import Image  # noqa: PLC0415 -- `import mekiki` stays quick

    with Image.open(io.BytesIO(trimap.png), formats=("PNG",)) as file:
        return np.asarray(file.convert("L"))


def _write_png(grey: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # noqa: PLC0415 -- `import mekiki` stays quick

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", compress_level=1)
    return file.getvalue()


def from_mask(mask: types_pb2.Mask) -> NDArray[np.bool_]:
    """The binary map that a service sent, (h, w) bool.

    Raises:
        Internal: its run lengths do not add up.
    """
    from PIL import Image  # noqa: PLC0415 -- `import mekiki` stays quick

    if mask.HasField("rle"):
        rle = mask.rle
        try:
            return from_runs(rle.counts, rle.width, rle.height).reshape(rle.width, rle.height).T
        except ValueError as error:
            raise Internal(f"the service sent a mask that is none: {error}") from error
    with Image.open(io.BytesIO(mask.png), formats=("PNG",)) as file:
        return np.asarray(file.convert("L")) >= 128
