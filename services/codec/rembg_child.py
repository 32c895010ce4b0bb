"""What the process of `RembgProcess` runs, given the model's file: masks for images.

A request is height and width (little-endian, 32 bits each) and the RGB bytes; the answer height * width bytes, 0
(background) to 255 (foreground).
"""

import struct
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image

from services.runtime.child import serve

HEADER = struct.Struct("<II")


def load_network() -> Callable[[bytes], bytes]:
    """Imports rembg, which takes seconds, and loads the model."""
    from rembg import new_session  # noqa: PLC0415 - slow, and unwanted in the process that starts this one

    session = new_session("u2net_custom", model_path=sys.argv[1], providers=["CPUExecutionProvider"])

    def find_foreground(request: bytes) -> bytes:
        height, width = HEADER.unpack_from(request)
        pixels = np.frombuffer(request, np.uint8, offset=HEADER.size).reshape(height, width, 3)
        return np.asarray(session.predict(Image.fromarray(pixels))[0], np.uint8).tobytes()

    return find_foreground


if __name__ == "__main__":
    serve(load_network)
