"""A child for the tests: answers with what was asked; "die", "sleep", "chat", "pid" and "raise" are orders."""

import os
import time

from services.runtime.child import serve


def answer(request: bytes) -> bytes:
    match request:
        case b"die":
            os._exit(3)
        case b"sleep":
            time.sleep(60)
        case b"chat":
            print("a library greets", flush=True)
        case b"pid":
            return str(os.getpid()).encode()
        case b"raise":
            raise RuntimeError("secret")
    return request


if __name__ == "__main__":
    serve(lambda: answer)
