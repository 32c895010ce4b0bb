"""What the anomaly service is told from outside."""

from typing import Annotated

from annotated_types import Ge, Le

from services.runtime.config import Settings


class AnomalySettings(Settings):
    """The settings of every service, and its own."""

    loaded_detectors: Annotated[int, Ge(1), Le(1000)] = 4
    """Most detectors that are kept in memory; the one that was not asked for the longest gives way."""
    calibration_folds: Annotated[int, Ge(2), Le(1000)] = 10
    """Parts that enrolled normals are split into for calibration; each is scored without its own part of the bank."""
    threads: Annotated[int, Ge(0), Le(64)] = 0
    """Images judged at once on a CPU; 0 means one a core, at most 8. On a GPU it is one."""
    follow_ms: Annotated[float, Ge(10), Le(10_000)] = 500.0
    """How often a replica looks for what other replicas and jobs have changed."""
