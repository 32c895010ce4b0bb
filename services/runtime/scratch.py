"""What the workers of one unfinished operation leave for each other: checkpoints, and what came out of its parts.

<operation>/checkpoint          the handler's own bytes; checkpoint-0003 those of part 3
<operation>/part-0003           the handler's own bytes: what came out of part 3
"""

from services.runtime.errors import NotFound
from services.runtime.store import Store


class Scratch:
    """The scratch of one operation. Every write is durable on return."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def save_checkpoint(self, data: bytes, part: int | None = None) -> None:
        """Overwrites the checkpoint."""
        self._store.put(self._checkpoint(part), data)

    def load_checkpoint(self, part: int | None = None) -> bytes | None:
        """The last checkpoint, or None."""
        return self._find(self._checkpoint(part))

    def save_part(self, part: int, data: bytes) -> None:
        """Keeps what came out of a part."""
        self._store.put(f"{self._folder}/part-{part:04d}", data)

    def load_part(self, part: int) -> bytes | None:
        """What came out of a part; None while it is not done."""
        return self._find(f"{self._folder}/part-{part:04d}")

    def count_parts(self) -> int:
        """How many parts are done."""
        return sum(key.startswith(f"{self._folder}/part-") for key in self._store.list(self._folder))

    def clear(self) -> None:
        """Removes all of it."""
        for key in self._store.list(self._folder):
            if key.startswith((f"{self._folder}/checkpoint", f"{self._folder}/part-")):
                self._store.delete(key)

    def _checkpoint(self, part: int | None) -> str:
        return f"{self._folder}/checkpoint" if part is None else f"{self._folder}/checkpoint-{part:04d}"

    def _find(self, key: str) -> bytes | None:
        try:
            return self._store.get(key)
        except NotFound:
            return None
