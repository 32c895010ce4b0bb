"""The process in which rembg lives: `python -m services.codec.rembg_child MODEL`.

Standard input carries, per image, height and width (little-endian, 32 bits each) and the RGB bytes; standard output one
byte once it is ready, then per image height * width bytes, 0 (background) to 255 (foreground).
"""

import struct
import sys
from typing import BinaryIO

import numpy as np
from PIL import Image

HEADER = struct.Struct("<II")


def main() -> None:
    """Serves images until standard input ends."""
    # rembg greets on standard output now and then; the pipe is for masks alone.
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    from rembg import new_session  # noqa: PLC0415 - slow, and unwanted in the process that starts this one

    session = new_session("u2net_custom", model_path=sys.argv[1], providers=["CPUExecutionProvider"])
    _send(sink, b"\x01")
    while header := source.read(HEADER.size):
        height, width = HEADER.unpack(header)
        pixels = np.frombuffer(source.read(height * width * 3), np.uint8).reshape(height, width, 3)
        mask = session.predict(Image.fromarray(pixels))[0]
        _send(sink, np.asarray(mask, np.uint8).tobytes())


def _send(sink: BinaryIO, data: bytes) -> None:
    sink.write(data)
    sink.flush()


if __name__ == "__main__":
    main()
