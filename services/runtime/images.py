"""Between messages and arrays. Sizes are checked from headers, before anything is decoded."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow  # noqa: N813 - a module, not a class
from PIL import ImageFile, UnidentifiedImageError

from mekiki._wire.runs import from_runs, to_runs
from mekiki._wire.trimap import Trimap
from mekiki.types.v1 import types_pb2
from services.runtime.errors import InvalidArgument

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
# The limit is ours, checked against `max_pixels` and named in the error; Pillow's own would only warn.
pillow.MAX_IMAGE_PIXELS = None

_DTYPES: dict[int, np.dtype[np.uint8] | np.dtype[np.uint16]] = {
    types_pb2.DATA_TYPE_UINT8: np.dtype("<u1"),
    types_pb2.DATA_TYPE_UINT16: np.dtype("<u2"),
}
_MODES = {"1": "L", "L": "L", "P": "RGBA", "LA": "RGBA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGB"}
_MODES |= {"CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}


class ImageReader:
    """Reads the `Image` of a request.

    Args:
        max_pixels: most pixels of an image.
        fetch_item: reads a data set item from the codec service; None where items make no sense.
    """

    def __init__(
        self,
        max_pixels: int,
        fetch_item: Callable[[types_pb2.ItemRef], Awaitable[Pixels]] | None = None,
    ) -> None:
        self._max_pixels = max_pixels
        self._fetch_item = fetch_item

    async def read(self, image: types_pb2.Image, field: str = "image") -> Pixels:
        """Returns the pixels: (h, w) or (h, w, 3 or 4), uint8 or uint16, RGB or RGBA.

        Raises:
            InvalidArgument: no source, an unknown format, damaged bytes or too many pixels; names `field`.
        """
        if image.WhichOneof("source") == "item":
            if self._fetch_item is None:
                raise InvalidArgument(f"{field}.item", "not accepted here; send encoded or tensor")
            return await self._fetch_item(image.item)
        return await asyncio.to_thread(decode_image, image, self._max_pixels, field)


def decode_image(image: types_pb2.Image, max_pixels: int, field: str = "image") -> Pixels:
    """Returns the pixels of an encoded image or a tensor; see `ImageReader.read`."""
    match image.WhichOneof("source"):
        case "encoded":
            return _decode_file(image.encoded, max_pixels, f"{field}.encoded")
        case "tensor":
            return _decode_tensor(image.tensor, max_pixels, f"{field}.tensor")
        case _:
            raise InvalidArgument(field, "one of encoded, tensor or item must be set")


def filter_one(item: types_pb2.ItemRef) -> types_pb2.ItemFilter:
    """Returns the filter that asks codec's ReadItems for one item."""
    return types_pb2.ItemFilter(
        dataset=item.dataset, item_ids=[item.item_id], form=item.form, encoding_id=item.encoding_id
    )


def encode_tensor(pixels: Pixels) -> types_pb2.Image:
    """Returns an image message that holds the pixels as they are."""
    dtype = types_pb2.DATA_TYPE_UINT16 if pixels.dtype == np.uint16 else types_pb2.DATA_TYPE_UINT8
    data = np.ascontiguousarray(pixels, _DTYPES[dtype]).tobytes()
    return types_pb2.Image(tensor=types_pb2.Tensor(dtype=dtype, shape=pixels.shape, data=data))


def encode_mask(mask: NDArray[np.bool_]) -> types_pb2.Mask:
    """Returns the message of a binary map, (h, w), as a PNG."""
    _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
    return types_pb2.Mask(png=png.tobytes())


def encode_runs(mask: NDArray[np.bool_]) -> types_pb2.Mask:
    """Returns the message of a binary map, (h, w), as run lengths."""
    height, width = mask.shape
    return types_pb2.Mask(rle=types_pb2.CocoRle(width=width, height=height, counts=to_runs(mask.ravel(order="F"))))


def decode_mask(mask: types_pb2.Mask, max_pixels: int, field: str = "mask") -> NDArray[np.bool_]:
    """Returns the binary map, (h, w).

    Raises:
        InvalidArgument: not a single-channel 8-bit PNG, runs that do not add up, neither or both, or too many pixels.
    """
    if mask.HasField("rle") == bool(mask.png):
        raise InvalidArgument(field, f"one of png or rle must be set, {'both are' if mask.png else 'none is'}")
    if mask.HasField("rle"):
        return _decode_runs(mask.rle, max_pixels, f"{field}.rle")
    return _decode_grey(mask.png, max_pixels, f"{field}.png") >= 128


def encode_trimap(trimap: NDArray[np.uint8]) -> types_pb2.Trimap:
    """Returns the message of a map, (h, w), of the values of `Trimap`."""
    _, png = cv2.imencode(".png", trimap)
    return types_pb2.Trimap(png=png.tobytes())


def decode_trimap(trimap: types_pb2.Trimap, max_pixels: int, field: str = "trimap") -> NDArray[np.uint8]:
    """Returns the map, (h, w), of the values of `Trimap`.

    Raises:
        InvalidArgument: not a single-channel 8-bit PNG, another value, no pixel that is known, or too many pixels.
    """
    pixels = _decode_grey(trimap.png, max_pixels, f"{field}.png")
    values = np.flatnonzero(cv2.calcHist([pixels], [0], None, [256], [0, 256])).tolist()
    strange = sorted(set(values) - set(Trimap))
    if strange:
        raise InvalidArgument(f"{field}.png", f"must hold the values {', '.join(map(str, Trimap))}, holds {strange[0]}")
    if values == [Trimap.UNKNOWN]:
        raise InvalidArgument(f"{field}.png", f"must know a pixel or more, all are {Trimap.UNKNOWN}")
    return pixels


def _decode_grey(data: bytes, max_pixels: int, field: str) -> NDArray[np.uint8]:
    pixels = _decode_file(data, max_pixels, field, formats=("PNG",))
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise InvalidArgument(field, f"must have one channel of 8 bits, has {pixels.shape} of {pixels.dtype}")
    return cast(NDArray[np.uint8], pixels)


def _decode_runs(rle: types_pb2.CocoRle, max_pixels: int, field: str) -> NDArray[np.bool_]:
    width, height = rle.width, rle.height
    _check_size(width, height, max_pixels, field)
    total = sum(rle.counts)
    if total != width * height:
        raise InvalidArgument(
            f"{field}.counts", f"must add up to {width * height} for {width} x {height}, add up to {total}"
        )
    flat = from_runs(np.array(rle.counts, np.int64), width, height, max_pixels)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def encode_heatmap(heat: NDArray[np.float32]) -> types_pb2.Heatmap:
    """Returns the message of a soft map, (h, w)."""
    return types_pb2.Heatmap(
        width=heat.shape[1], height=heat.shape[0], values=np.ascontiguousarray(heat, "<f4").tobytes()
    )


def decode_heatmap(heatmap: types_pb2.Heatmap, max_pixels: int, field: str = "heatmap") -> NDArray[np.float32]:
    """Returns the soft map, (h, w).

    Raises:
        InvalidArgument: a size that is not positive, too large or does not fit the bytes; values not finite or < 0.
    """
    height, width = heatmap.height, heatmap.width
    _check_size(width, height, max_pixels, field)
    if len(heatmap.values) != 4 * width * height:
        raise InvalidArgument(
            f"{field}.values",
            f"must hold {4 * width * height} bytes for {width} x {height}, holds {len(heatmap.values)}",
        )
    heat = np.frombuffer(heatmap.values, "<f4").reshape(height, width)
    if not np.isfinite(heat).all() or heat.min() < 0:
        raise InvalidArgument(f"{field}.values", "must be finite and >= 0")
    return heat


def _decode_tensor(tensor: types_pb2.Tensor, max_pixels: int, field: str) -> Pixels:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise InvalidArgument(f"{field}.dtype", f"must be DATA_TYPE_UINT8 or DATA_TYPE_UINT16, is {tensor.dtype}")
    shape = tuple(tensor.shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise InvalidArgument(
            f"{field}.shape", f"must be [height, width] or [height, width, 1 | 3 | 4], is {list(shape)}"
        )
    _check_size(shape[1], shape[0], max_pixels, f"{field}.shape")
    expected = int(np.prod(shape)) * dtype.itemsize
    if len(tensor.data) != expected:
        raise InvalidArgument(
            f"{field}.data", f"must hold {expected} bytes for {list(shape)}, holds {len(tensor.data)}"
        )
    pixels = cast(Pixels, np.frombuffer(tensor.data, dtype).reshape(shape))
    return pixels[:, :, 0] if len(shape) == 3 and shape[2] == 1 else pixels


def _decode_file(data: bytes, max_pixels: int, field: str, formats: tuple[str, ...] = FORMATS) -> Pixels:
    picture = _open(data, field, formats)
    _check_size(picture.width, picture.height, max_pixels, field)
    if getattr(picture, "n_frames", 1) > 1:
        raise InvalidArgument(field, f"must hold one image, holds {picture.n_frames}")  # type: ignore[attr-defined]
    try:
        return _load(picture, data, field)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InvalidArgument(field, f"the {picture.format} of {len(data)} bytes is truncated or damaged") from error


def _open(data: bytes, field: str, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    if not data:
        raise InvalidArgument(field, "must not be empty, holds 0 bytes")
    try:
        return pillow.open(io.BytesIO(data), formats=formats)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidArgument(field, f"must be one of {', '.join(formats)}; these {len(data)} bytes are not") from error


def _load(picture: ImageFile.ImageFile, data: bytes, field: str) -> Pixels:
    picture.load()  # notices truncation
    if picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16)
    if picture.mode not in _MODES:
        raise InvalidArgument(field, f"must have 8 or 16 bits a sample, has pixel type {picture.mode}")
    if picture.mode in ("RGB", "RGBA") and picture.format in ("PNG", "TIFF"):
        # Pillow halves 16-bit colour to 8 bits without a word; OpenCV keeps it.
        deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if deep is not None and deep.dtype == np.uint16 and deep.ndim == 3:
            colour: Pixels = cv2.cvtColor(deep, cv2.COLOR_BGRA2RGBA if deep.shape[2] == 4 else cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
            return colour
    return np.asarray(picture.convert(_MODES[picture.mode]))


def _check_size(width: int, height: int, max_pixels: int, field: str) -> None:
    if width < 1 or height < 1:
        raise InvalidArgument(field, f"width and height must be at least 1, are {width} x {height}")
    if width * height > max_pixels:
        raise InvalidArgument(
            field, f"must have at most {max_pixels} pixels, has {width} x {height} = {width * height}"
        )
