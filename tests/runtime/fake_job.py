"""A worker whose handlers do what tests ask for; run as `python -m fake_job NAME`, with this folder on the path.

The request is a google.protobuf.Struct, the response as well.
"""

import os
import signal
import time

from google.protobuf.struct_pb2 import Struct

from services.runtime.config import Settings
from services.runtime.errors import InvalidArgument
from services.runtime.worker import Job, run_job


def count(request: Struct, job: Job) -> Struct:
    """Counts to `until` in steps of `pause_s`, from the last checkpoint; records every step in the store."""
    first = int(job.load_checkpoint() or b"0")
    for step in range(first, int(request["until"])):
        job.report("counting", step, int(request["until"]), half=step / 2)
        job.store.put(f"steps/{os.getpid()}-{step:04d}", b"")
        job.save_checkpoint(str(step + 1).encode())
        time.sleep(request["pause_s"])
    job.report("counted", int(request["until"]), int(request["until"]))
    response = Struct()
    response.update({"first": first, "reached": request["until"], "name": job.operation_name})
    return response


def refuse(request: Struct, job: Job) -> Struct:
    raise InvalidArgument("request.size", "must be at most 7, is 8")


def crash(request: Struct, job: Job) -> Struct:
    raise ZeroDivisionError("a secret that only the log may tell")


def die(request: Struct, job: Job) -> Struct:
    """Is killed, as by the kernel when memory is short, as often as `times` says."""
    deaths = len(job.store.list("deaths"))
    if deaths < request["times"]:
        job.store.put(f"deaths/{deaths}", b"")
        os.kill(os.getpid(), signal.SIGKILL)
    response = Struct()
    response.update({"deaths": deaths})
    return response


def ignore_everything(request: Struct, job: Job) -> Struct:
    """Never reports, so never learns that it should stop."""
    job.store.put("deaf", b"")
    time.sleep(60)
    return Struct()


def look_around(request: Struct, job: Job) -> Struct:
    """Says how many workers run at once, itself included, at most."""
    mine, most = f"running/{os.getpid()}", 0
    job.store.put(mine, b"")
    for _ in range(10):
        most = max(most, len(job.store.list("running")))
        time.sleep(0.02)
    job.store.delete(mine)
    response = Struct()
    response.update({"most": most})
    return response


def share(request: Struct, job: Job) -> Struct | None:
    """Does parts: each says which worker did it, and what the checkpoint of its own was as it began."""

    def do(number: int, part: Job) -> bytes:
        part.report("not what is shown", 7, 9)
        part.store.put(f"parts/{number}-{os.getpid()}", b"")
        found = part.load_checkpoint()
        part.save_checkpoint(f"of part {number}".encode())
        if found is None and number == request["killed_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{number} after {found}".encode()

    made = job.do_parts("sharing", do)
    if made is None:
        return None
    response = Struct()
    response.update({"made": [part.decode() for part in made]})
    return response


HANDLERS = {
    "Share": share,
    "Count": count,
    "Refuse": refuse,
    "Crash": crash,
    "Die": die,
    "IgnoreEverything": ignore_everything,
    "LookAround": look_around,
}

if __name__ == "__main__":
    run_job(HANDLERS, Settings)
