"""What is asked of a detector and what it tells: plain values, without the network's libraries."""

from dataclasses import dataclass

from services.runtime.errors import InvalidArgument

LEAST_SCORE = 0.01  # detections below it are dropped before any is compared with another
MOST_OBJECTS = 300
DEFAULT_MIN_SCORE = 0.3
DEFAULT_MAX_OBJECTS = 100


@dataclass(frozen=True)
class DetectedObject:
    """An object that was found; the box is half open, in pixels of the image as sent: left, top, right, bottom."""

    box: tuple[int, int, int, int]
    label: str
    score: float


@dataclass(frozen=True)
class Wanted:
    """Which of the objects found are told: those of this score or more, and the surest of them."""

    min_score: float = DEFAULT_MIN_SCORE
    max_objects: int = DEFAULT_MAX_OBJECTS

    def __post_init__(self) -> None:
        if not LEAST_SCORE <= self.min_score <= 1:
            raise InvalidArgument("min_score", f"must be {LEAST_SCORE:g} to 1, is {self.min_score:g}")
        if not 1 <= self.max_objects <= MOST_OBJECTS:
            raise InvalidArgument("max_objects", f"must be 1 to {MOST_OBJECTS}, is {self.max_objects}")
