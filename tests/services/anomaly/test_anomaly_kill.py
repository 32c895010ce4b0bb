"""Kill -9 between any two writes: what was acknowledged is there, and nothing is there twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from anomaly_parts import open_bank
from anomaly_vectors import FLAT, embed

from services.anomaly.bank import Bank
from services.runtime.errors import Unavailable
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from tests.conftest import ROOT

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("MEKIKI_KILL_ROUNDS", "20"))


def check_rows(bank):
    """Every live item has its four vectors, exactly once."""
    items = sorted(bank.snapshot.items)
    numbers = [int(item.split()[1]) for item in items]
    expected = np.concatenate([embed(number, count=4).vectors for number in numbers]) if items else np.zeros((0, 8))
    found = bank.snapshot.all_vectors() if items else np.zeros((0, 8))
    assert found.shape == expected.shape
    assert (found == expected).all()


@pytest.fixture
def nursery(tmp_path):
    """Starts enrolling at a number; kills it after a while; returns what it had said."""
    command = [sys.executable, str(HERE / "anomaly_enroller.py"), f"file://{tmp_path}"]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}:{HERE}", "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, env=os.environ | paths, **pipes) as process:

        def run(first, seconds):
            process.stdin.write(f"{first}\n")
            child = int(process.stdout.readline().split()[1])
            said = [process.stdout.readline().split()]
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            while said[-1][0] != "ended":
                said.append(process.stdout.readline().split())
            return [(verb, int(number)) for verb, number in said[:-1]]

        yield run
        process.stdin.close()


def test_killed_at_any_moment_a_bank_holds_all_that_was_acknowledged_and_nothing_twice(tmp_path, nursery):
    first, dice, present, absent = 0, random.Random(7), set(), set()
    for _ in range(ROUNDS):
        unsure = set()
        for verb, number in nursery(first, dice.uniform(0, 0.4)):
            names = {f"item {number}", f"item {number + 1}"}
            if verb == "try":
                unsure, first = names, number + 2
            elif verb == "enrolled":
                present, unsure = present | names, {f"item {number}"} if number % 3 == 0 else set()
            else:
                present, absent, unsure = present - {f"item {number}"}, absent | {f"item {number}"}, set()
        bank = open_bank(FLAT, Store.open(f"file://{tmp_path}"))
        live = bank.snapshot.items
        assert present - unsure <= live <= present | unsure
        assert not absent & live
        present = set(live)  # what was unsure is settled now
        check_rows(bank)
    assert len(present) > ROUNDS / 4  # it was alive between its deaths


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
        bank = Bank(torn, ManifestLog(torn, "log"), FLAT)
        while True:
            unsure = {f"item {number}", f"item {number + 1}"}
            bank.enroll([(f"item {index}", embed(index, count=4)) for index in (number, number + 1)])
            acknowledged, unsure = acknowledged | unsure, set()
            if number % 6 == 4:
                unsure = {f"item {number}"}
                bank.forget(unsure)
                acknowledged, unsure = acknowledged - unsure, set()
            number += 2
    except Unavailable:
        pass
    healed = open_bank(FLAT, store)
    assert acknowledged - unsure <= healed.snapshot.items <= acknowledged | unsure
    check_rows(healed)
    # Whoever was not answered tries again, and all is well.
    if number % 6 != 4 or not unsure <= acknowledged:
        healed.enroll([(item, embed(int(item.split()[1]), count=4)) for item in unsure])
        assert acknowledged | unsure == healed.snapshot.items
    check_rows(healed)
