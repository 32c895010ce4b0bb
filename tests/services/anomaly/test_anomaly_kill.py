"""Kill -9 between any two writes: what was acknowledged is there, and nothing is there twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from anomaly_parts import open_bank
from anomaly_vectors import FLAT, SMALL, check_rows, embed

from services.anomaly.bank import Bank
from services.runtime.errors import Unavailable
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("MEKIKI_KILL_ROUNDS", "200"))


def test_killed_at_every_step_a_bank_holds_all_that_was_acknowledged_and_nothing_twice(tmp_path):
    command = [sys.executable, HERE / "killed_enroller.py", str(tmp_path), str(ROUNDS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    died = json.loads(ran.stdout)
    assert sum(died.values()) == ROUNDS
    assert ROUNDS < 200 or set(died) == {"enroll", "enrolled", "forgotten", "compacted"}


class Torn:
    """A store that dies at its n-th write: before it, after it, and never again."""

    def __init__(self, store, writes, *, after):
        self._store, self._left, self._after = store, writes, after

    def __getattr__(self, name):
        operation = getattr(self._store, name)
        if name not in ("create", "put", "delete", "claim"):
            return operation

        def count(*arguments):
            self._left -= 1
            if self._left > 0 or (self._left == 0 and self._after):
                result = operation(*arguments)
                if self._left > 0:
                    return result
            raise Unavailable("the power is gone")

        return count


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writes", range(1, 91))
def test_a_store_that_dies_at_any_write_leaves_the_old_state_or_the_new(writes, after):
    store = Store.open("memory://")
    torn = Torn(store, writes, after=after)
    acknowledged, unsure, number = set(), set(), 0
    try:
        bank = Bank(torn, ManifestLog(torn, "log"), FLAT, sizes=SMALL)
        while True:
            unsure = {f"item {number}", f"item {number + 1}"}
            bank.enroll([(f"item {index}", "", embed(index, count=4)) for index in (number, number + 1)])
            acknowledged, unsure = acknowledged | unsure, set()
            if number % 6 == 4:
                unsure = {f"item {number}"}
                bank.forget(unsure)
                acknowledged, unsure = acknowledged - unsure, set()
            bank.compact()
            number += 2
    except Unavailable:
        pass
    healed = open_bank(FLAT, store)
    assert acknowledged - unsure <= healed.snapshot.items <= acknowledged | unsure
    check_rows(healed)
    # Whoever was not answered tries again, and all is well.
    if number % 6 != 4 or not unsure <= acknowledged:
        healed.enroll([(item, "", embed(int(item.split()[1]), count=4)) for item in unsure])
        assert acknowledged | unsure == healed.snapshot.items
    check_rows(healed)
