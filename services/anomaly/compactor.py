"""Compacts the banks in memory beside the calls."""

from collections.abc import Callable, Iterable

import faiss

from services.anomaly.bank import Bank
from services.runtime.chore import Chore, IsClosed
from services.runtime.errors import MekikiError
from services.runtime.logs import get_logger

EVERY_S = 10.0
"""So often somebody looks whether there is something to do; so long, about, forgotten rows stay in the store."""

REST = 20
"""So many times as long as compaction took nothing is compacted: it has a twentieth of a core, and of the disk."""


def open_compactor(list_banks: Callable[[], Iterable[Bank]]) -> Chore:
    """Compacts again and again, one bank at a time. Of replicas that do the same work one wins.

    Args:
        list_banks: those in memory, every time anew.
    """

    def compact_all(is_closed: IsClosed) -> None:
        faiss.omp_set_num_threads(1)  # of this thread alone: the others belong to the calls
        for bank in list_banks():
            _compact(bank, is_closed)

    return Chore("compact", compact_all, EVERY_S, EVERY_S, REST)


def _compact(bank: Bank, is_closed: IsClosed) -> None:
    try:
        while not is_closed() and bank.compact():
            version = bank.snapshot.version
            get_logger().info("bank compacted", version=version, segments=len(bank.snapshot.segments))
    except MekikiError as error:  # a store that is away, a detector that was deleted: the others go on
        get_logger().warning("compaction failed", error=error.message)
