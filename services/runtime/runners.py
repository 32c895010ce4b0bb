"""Where workers run. A runner starts one process for one attempt at an operation and knows whether it still lives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


@dataclass(frozen=True)
class Task:
    """One attempt at one operation."""

    service: str
    operation: str
    """The id, without the service."""
    attempt: int
    parts: int = field(default=1, compare=False)
    """So many that can be done side by side; only a start needs to know."""

    @property
    def name(self) -> str:
        """The operation's public name."""
        return f"{self.service}/operations/{self.operation}"


class Life(Enum):
    """What a runner knows of a task's worker."""

    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """Another process started it: only its heartbeat tells."""


@dataclass(frozen=True)
class Sighting:
    """A look at a worker; `detail` says how one that ended did so."""

    life: Life
    detail: str = ""


class Runner(Protocol):
    """A place that runs workers. All methods return at once and are called from one thread at a time.

    A place with room for several workers may give each part of a task one of its own; else one does them all.
    """

    def start(self, task: Task, claim: Callable[[], bool]) -> None:
        """Starts a worker if there is room and then `claim()` says that nobody else did."""

    def look(self, task: Task) -> Sighting:
        """Whether the task's worker lives."""

    def stop(self, task: Task) -> None:
        """Asks the worker to stop, and after a grace makes it; called again and again until it has ended."""

    def forget(self, task: Task) -> None:
        """The operation and its worker have ended: nobody will ask for it again."""

    def close(self) -> Sequence[Task]:
        """Stops what cannot outlive this process (this one may wait); returns the tasks that it had to kill."""
