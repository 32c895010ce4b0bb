"""What the saliency service is told from outside."""

from typing import Annotated

from annotated_types import Ge, Le

from services.runtime.config import Settings


class SaliencySettings(Settings):
    """The settings of every service, and its own."""

    loaded_classifiers: Annotated[int, Ge(1), Le(1000)] = 4
    """Most classifiers in memory, and as many detectors and segmenters; the one not asked for the longest gives way."""
    max_training_items: Annotated[int, Ge(2)] = 100_000
    """Most items of one training; at 224 pixels each takes 150 KB of the temporary folder while it runs, and a
    segmenter's training up to 1 GiB more."""
