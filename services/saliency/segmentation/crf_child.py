"""What a process of `CrfProcesses` runs: mean-field inference of the dense CRF.

A request is classes, height and width (little-endian, 32 bits each), the scores (classes, height, width) float32 and
the picture (height, width, 3); the answer the scores after it.
"""

import struct
from collections.abc import Callable

import numpy as np

from services.runtime.child import serve
from services.saliency.segmentation.dense_crf import apply_crf

HEADER = struct.Struct("<III")


def load_crf() -> Callable[[bytes], bytes]:
    """Give what answers a request."""

    def refine(request: bytes) -> bytes:
        classes, height, width = HEADER.unpack_from(request)
        count = classes * height * width
        scores = np.frombuffer(request, "<f4", count, HEADER.size).reshape(classes, height, width)
        picture = (
            np.frombuffer(request, np.uint8, offset=HEADER.size + 4 * count).reshape(height, width, 3).copy()
        )  # pydensecrf takes no read-only memory
        return apply_crf(scores, picture).astype("<f4").tobytes()

    return refine


if __name__ == "__main__":
    serve(load_crf)
