"""Sizes of images as lossless JPEG XL, effort 7 (libjxl's own default): file names in, bytes out, a line each."""

import io
import sys

import pillow_jxl  # noqa: F401 - teaches Pillow the format
from PIL import Image


def main():
    """Reads names from standard input."""
    for line in sys.stdin:
        out = io.BytesIO()
        with Image.open(line.rstrip("\n")) as image:
            image.save(out, "JXL", lossless=True, effort=7)
        print(len(out.getvalue()), flush=True)


if __name__ == "__main__":
    main()
