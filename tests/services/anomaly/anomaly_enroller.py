"""Processes that enroll and forget, saying on stdout what was acknowledged, until somebody kills them.

    python anomaly_enroller.py STORE_URL

For every number on stdin one process is forked, which starts from that number; its id is the first thing said, "ended"
the last. Forked, because importing takes seconds and dying takes none.
"""

import os
import sys

from anomaly_vectors import FLAT, embed

from services.anomaly.bank import Bank
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store


def say(text):
    os.write(1, f"{text}\n".encode())


def enroll(url, number):
    store = Store.open(url)
    bank = Bank(store, ManifestLog(store, "log"), FLAT)
    while True:
        names = [f"item {number}", f"item {number + 1}"]
        say(f"try {number}")
        bank.enroll([(name, embed(index, count=4)) for index, name in enumerate(names, number)])
        say(f"enrolled {number}")
        if number % 3 == 0:
            bank.forget(names[:1])
            say(f"forgotten {number}")
        number += 2


def main(url):
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            enroll(url, int(line))
        os.waitpid(child, 0)
        say("ended 0")


if __name__ == "__main__":
    main(sys.argv[1])
