"""Compacts the banks in memory beside the calls."""

import random
import threading
import time
from collections.abc import Callable, Iterable

import faiss

from services.anomaly.bank import Bank
from services.runtime.errors import MekikiError
from services.runtime.logs import get_logger

EVERY_S = 60.0
"""So often somebody looks whether there is something to do; so long, about, forgotten rows stay in the store."""

REST = 20
"""So many times as long as compaction took nothing is compacted: it has a twentieth of a core, and of the disk."""


class Compactor:
    """Compacts again and again in a thread of its own, one bank at a time, until closed.

    Any number of replicas may: of those that do the same work one wins, and they do not keep step.

    Args:
        list_banks: those in memory, every time anew.
    """

    def __init__(self, list_banks: Callable[[], Iterable[Bank]]) -> None:
        self._list_banks = list_banks
        self._closed = threading.Event()
        # A daemon: a process never waits for a compaction, and killing one does no harm.
        self._thread = threading.Thread(target=self._run, name="compact", daemon=True)

    def start(self) -> None:
        """Begins; the first look comes within two minutes."""
        self._thread.start()

    def close(self) -> None:
        """Begins nothing more; what is under way may go on."""
        self._closed.set()

    def _run(self) -> None:
        faiss.omp_set_num_threads(1)  # of this thread alone: the others belong to the calls
        wait_s = EVERY_S
        while not self._closed.wait(wait_s * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter, not a secret
            begun_s = time.monotonic()
            try:
                self._compact_all()
            except Exception:  # noqa: BLE001 - a thread that nobody waits for must not die of a bad day
                get_logger().warning("compaction failed", exc_info=True)
            wait_s = max(EVERY_S, REST * (time.monotonic() - begun_s))

    def _compact_all(self) -> None:
        for bank in self._list_banks():
            try:
                while not self._closed.is_set() and bank.compact():
                    version = bank.snapshot.version
                    get_logger().info("bank compacted", version=version, segments=len(bank.snapshot.segments))
            except MekikiError as error:  # a store that is away, a detector that was deleted: the others go on
                get_logger().warning("compaction failed", error=error.message)
