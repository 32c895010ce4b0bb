"""A training whose process is killed goes on from its checkpoint in another process, with either recipe."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(recipe, path, count):
    command = [sys.executable, "tests/services/saliency/killed_training.py", recipe, str(path), str(count)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("recipe", ["thawed", "original"])
def test_a_killed_training_ends_as_if_nothing_had_happened(tmp_path, recipe):
    whole = run(recipe, tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    assert run(recipe, tmp_path / "killed", 2).returncode == -signal.SIGKILL
    resumed = run(recipe, tmp_path / "killed", 0)
    assert resumed.stdout == whole.stdout != ""
