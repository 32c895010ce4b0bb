import subprocess
import sys

import pytest

# Each thread asks for memory that Python does not manage itself, while all the others are alive.
PROGRAM = """
import ctypes, sys, threading
from services.runtime.arenas import limit_arenas
libc = ctypes.CDLL(None)
if sys.argv[1] == "limited":
    limit_arenas()
all_here = threading.Barrier(12)
def ask():
    held = bytearray(50_000)
    all_here.wait()
threads = [threading.Thread(target=ask) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


@pytest.mark.parametrize(("limit", "counts"), [("unlimited", range(3, 100)), ("limited", range(1, 3))])
def test_threads_share_two_heaps(limit, counts):
    program = [sys.executable, "-c", PROGRAM, limit]
    told = subprocess.run(program, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert told.stdout.count("<heap nr=") in counts
