"""How many heaps the C library keeps."""

import ctypes

_M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


def limit_arenas() -> None:
    """Lets all threads of this process share two heaps; to be called before there are threads.

    By default glibc gives up to eight heaps a core to threads, and what is freed in one is of no use to another:
    decoders and networks that run in ever new threads made a process grow by 70 KB an image. Other C libraries have no
    such heaps.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, ARENAS)
