"""The threads that judge images: on a CPU several, each of which computes alone.

A network that sees one image at a time hardly gains from a second core, and what comes after it nothing: two images at
once on two cores are nearly twice as many, and no score depends on it (docs/measurements.md).
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import faiss
import torch

from services.runtime.cores import count_cores

_MOST = 8  # each image in work takes a hundred megabytes


def count_threads(device: torch.device, wanted: int) -> int:
    """Images judged at once: on a CPU as many as `wanted`, where that is 0 one a core; elsewhere one."""
    if device.type != "cpu":
        return 1
    return wanted or min(count_cores(), _MOST)


def open_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads that share what cores torch has; other threads go on as before."""
    others = torch.get_num_threads()
    return ThreadPoolExecutor(count, name, _share_cores, (max(1, others // count), others))


def _share_cores(own: int, others: int) -> None:
    torch.set_num_threads(own)
    faiss.omp_set_num_threads(own)  # of this thread alone, while torch takes it for the default of threads to come
    restoring = threading.Thread(target=torch.set_num_threads, args=[others])
    restoring.start()
    restoring.join()
