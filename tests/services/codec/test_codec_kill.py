"""Kill -9 at any step of an append, an update or a sweep: the old state or the new, and whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("MEKIKI_KILL_ROUNDS", "320"))
"""An append, an update and a sweep are about 300 steps; each round dies one step later than the one before."""


def test_killed_at_every_step_a_data_set_loses_nothing_and_doubles_nothing(tmp_path):
    command = [sys.executable, HERE / "killed_appender.py", str(tmp_path), str(ROUNDS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    seen = json.loads(ran.stdout)
    assert sum(seen.values()) == ROUNDS
    assert ROUNDS < 320 or set(seen) == {"old append", "new append", "update", "sweep"}
