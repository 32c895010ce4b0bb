"""What was made of the items of a bank, kept with the version that it was made of."""

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

Made = TypeVar("Made")


class Memory:
    """One thing made of all items, and one of another selection: whoever scores fold by fold makes each once.

    Has a memory of its own for each category of the items.
    """

    def __init__(self) -> None:
        self._categories: dict[str, Memory] = {}
        self._lock = threading.Lock()
        self._whole: list[Any] = []
        self._part: list[tuple[frozenset[str], Any]] = []

    def of(self, category: str) -> "Memory":
        """What was made of one category."""
        return self._categories.setdefault(category, Memory())

    def keep(self, category: str, other: "Memory") -> None:
        """Take over what another memory has of a category."""
        self._categories[category] = other.of(category)

    def recall(self, exclude: AbstractSet[str], make: Callable[[], Made]) -> Made:
        """What was made without the items in `exclude`, made now where it was not."""
        with self._lock:
            if not exclude:
                self._whole = self._whole or [make()]
                made: Made = self._whole[0]
                return made
            if not self._part or self._part[0][0] != exclude:
                self._part.clear()  # before the next is made: one of them may be a hundred megabytes
                self._part = [(frozenset(exclude), make())]
            part: Made = self._part[0][1]
            return part
