"""How many cores this process may use."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: microseconds of processor time, or "max", a period


def count_cores(quota_file: Path = _QUOTA) -> int:
    """Cores that this process may run on, fewer where its container has a limit: what `os.cpu_count` does not know."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
