"""The threads that networks run in on a CPU: as many as there are cores, an image each.

A network that sees one image at a time hardly gains from a second core: two images at once on two cores are nearly
twice as many, and no result depends on how many there are.
"""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

_MOST = 8  # each image in work takes up to a hundred megabytes


@functools.cache
def open_threads() -> ThreadPoolExecutor:
    """Threads that share what cores torch had when they were first asked for; other threads go on as before."""
    cores = torch.get_num_threads()
    count = min(cores, _MOST)
    return ThreadPoolExecutor(count, "saliency-image", _share_cores, (max(1, cores // count), cores))


def _share_cores(own: int, others: int) -> None:
    torch.set_num_threads(own)  # of this thread alone, while torch takes it for the default of threads to come
    restoring = threading.Thread(target=torch.set_num_threads, args=[others])
    restoring.start()
    restoring.join()
