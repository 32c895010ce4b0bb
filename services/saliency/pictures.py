"""From an image as sent to the network's input: the one road that training and serving share.

An image is squeezed whole to a square, its shape not kept and nothing cut off. So a heat map over the input is one over
the whole image: input pixel (x, y) lies at (x * width / size, y * height / size) of the image, and back.
"""

import cv2
import numpy as np
import numpy.typing as npt
import torch

from services.runtime.errors import InvalidArgument

Pixels = npt.NDArray[np.uint8]

_GREY_SHAPE = 2
_SIXTEEN_BITS_PER_EIGHT = 257  # 65535 / 255


def convert_to_rgb(image: npt.NDArray[np.generic], field: str = "image") -> Pixels:
    """Make 8-bit RGB of any image that a camera or a drawing tool sends.

    - 16 bits: value / 257, rounded. The scale is fixed, never stretched to what the image holds: equal light must stay
      equal in every image. Scale up 10- and 12-bit frames before sending.
    - Grey, (h, w) or (h, w, 1): three equal channels.
    - RGBA: laid over white, for what hides under full transparency is seldom meant to be seen.

    Returns (h, w, 3) uint8. Raises InvalidArgument naming `field` for any other type, shape or an empty image.
    """
    _refuse_odd_shapes(image, field)
    eight_bits = _reduce_to_eight_bits(image, field)
    planes = eight_bits[..., None] if eight_bits.ndim == _GREY_SHAPE else eight_bits  # (h, w, 1|3|4)
    if planes.shape[2] == 1:
        return np.repeat(planes, 3, axis=2)
    return planes if planes.shape[2] == 3 else _lay_over_white(planes)


def _refuse_odd_shapes(image: npt.NDArray[np.generic], field: str) -> None:
    fits = image.ndim == _GREY_SHAPE or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
    if not fits:
        raise InvalidArgument(field, f"an image is (h, w) or (h, w, 1|3|4), this one is {image.shape}")
    if image.size == 0:
        raise InvalidArgument(field, f"the image is empty: {image.shape}")


def _reduce_to_eight_bits(image: npt.NDArray[np.generic], field: str) -> Pixels:
    if image.dtype == np.uint8:
        return image.view(np.uint8)
    if image.dtype == np.uint16:
        wide = image.astype(np.uint32)
        return ((wide + _SIXTEEN_BITS_PER_EIGHT // 2) // _SIXTEEN_BITS_PER_EIGHT).astype(np.uint8)
    raise InvalidArgument(field, f"pixels are uint8 or uint16, these are {image.dtype}")


def _lay_over_white(rgba: Pixels) -> Pixels:
    alpha = rgba[..., 3:].astype(np.uint32)  # (h, w, 1)
    blend = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((blend + 127) // 255).astype(np.uint8)


def squeeze(rgb: Pixels, size: int) -> Pixels:
    """Resize a whole image to (size, size, 3), averaging where it shrinks so that thin lines survive."""
    height, width = rgb.shape[:2]
    if (height, width) == (size, size):
        return rgb
    shrinks = height >= size and width >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (size, size), interpolation=method), dtype=np.uint8)


def prepare(image: npt.NDArray[np.generic], size: int, field: str = "image") -> Pixels:
    """Convert and squeeze an image as sent: what training stores and serving feeds. Returns (size, size, 3) uint8."""
    return squeeze(convert_to_rgb(image, field), size)


def cut_centre(picture: Pixels, aspect: float, size: int) -> Pixels:
    """Cut the centre out of a squeezed picture (s, s, 3) in the shape that its image had, at (size, size, 3).

    Of an image whose width by height is `aspect`, that is the square in its middle with size / s of its shorter side.
    """
    share = size / picture.shape[0]
    return cut_region(picture, size, share * min(1.0, 1 / aspect), share * min(1.0, aspect), (0.5, 0.5))


def cut_region(picture: Pixels, size: int, width: float, height: float, place: tuple[float, float]) -> Pixels:
    """Cut a rectangle and resize it to (size, size, 3).

    `width` and `height` are shares of the picture's, `place` says where between its two ends, each in [0, 1].
    """
    side = picture.shape[0]
    pixels = [max(1, min(side, round(side * share))) for share in (width, height)]
    left, top = (round(at * (side - length)) for at, length in zip(place, pixels, strict=True))
    return squeeze(picture[top : top + pixels[1], left : left + pixels[0]], size)


def normalise(pictures: Pixels, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Turn (n, s, s, 3) uint8 into (n, 3, s, s) float32, shifted and scaled by the backbone's own mean and spread.

    Its memory is laid out channels last, as the networks' (`backbones.py`): on a CPU that is nearly twice as fast.
    """
    # A copy, since the pictures may be a read-only map of a file, which torch would warn about.
    planes = torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float().div(255)
    centre = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    spread = torch.tensor(std, device=device).view(1, 3, 1, 1)
    return ((planes - centre) / spread).contiguous(memory_format=torch.channels_last)
