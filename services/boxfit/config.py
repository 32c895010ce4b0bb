"""What the boxfit service is told from outside."""

from typing import Annotated

from annotated_types import Ge, Le

from services.runtime.config import Settings


class BoxfitSettings(Settings):
    """The settings of every service, and its own."""

    max_map_pixels: Annotated[int, Ge(1)] = 16_000_000
    """Most pixels of a map that FitBox takes; the exact search needs up to 50 bytes of memory for each."""
    bayesian_queue_limit: Annotated[int, Ge(1), Le(1000)] = 8
    """Most Bayesian searches that wait; they run one at a time and take seconds each."""
