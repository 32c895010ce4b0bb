"""What the process of `SearchProcess` runs: Bayesian searches.

A request is height, width, iterations and seed (little-endian, 64 bits each) and the map, a bit a pixel; the answer the
box, x_min, y_min, x_max and y_max, and the number of boxes tried.
"""

import struct
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from services.boxfit.bayesian import fit_bayesian, import_gpyopt
from services.runtime.child import serve

REQUEST = struct.Struct("<qqqq")
ANSWER = struct.Struct("<qqqqq")


def load_search() -> Callable[[bytes], bytes]:
    """Imports GPyOpt, which takes seconds. One thread: more only slow its small matrices down."""
    import_gpyopt()
    threadpool_limits(1)

    def search(request: bytes) -> bytes:
        height, width, max_iterations, seed = REQUEST.unpack_from(request)
        bits = np.frombuffer(request, np.uint8, offset=REQUEST.size)
        ones = np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)
        fit = fit_bayesian(ones, max_iterations, seed)
        return ANSWER.pack(fit.box.x_min, fit.box.y_min, fit.box.x_max, fit.box.y_max, fit.evaluations)

    return search


if __name__ == "__main__":
    serve(load_search)
