"""What the codec needs of a store: immutable objects, and a numbered log of manifests. `runtime` has both."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from services.runtime.errors import AlreadyExists
from services.runtime.sealed import copy_of, seal

Body = dict[str, Any]


class Store(Protocol):
    """Objects under keys; a write that has returned is durable. All calls block."""

    def get(self, key: str) -> bytes:
        """Returns an object, or raises NotFound."""
        ...

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Returns bytes [start, end) of an object, or raises NotFound or DataLoss."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Writes an object that must not exist, or raises AlreadyExists."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Writes an object in place of what may be there."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        ...

    def folders(self, prefix: str = "") -> list[str]:
        """Returns the names of the folders directly beneath a folder."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Returns the keys beneath a folder."""
        ...


class Manifest(Protocol):
    """One version; number 0 with an empty body stands for "none yet"."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def body(self) -> Body:
        """What it says."""


class Log(Protocol):
    """The manifests of one thing."""

    def latest(self) -> Manifest:
        """Returns the newest manifest."""
        ...

    def read(self, number: int) -> Manifest:
        """Returns one version, or raises NotFound."""
        ...

    def locate(self, number: int) -> str:
        """Returns the key of a version."""
        ...

    def update(self, change: Callable[[Body], Body]) -> Manifest:
        """Commits `change(newest body)` as the next version; `change` may be called several times."""
        ...


OpenLog = Callable[[str], Log]
"""Opens the log beneath a prefix."""


def create(store: Store, key: str, data: bytes) -> int:
    """Writes an object, unless a worker that was lost had come as far as this; returns the bytes it takes."""
    with suppress(AlreadyExists):
        store.create(key, data)
    return len(data)


def create_twice(store: Store, key: str, value: Body) -> int:
    """Writes a sealed object and its copy, likewise; returns the bytes that both take."""
    data = seal(value)
    return sum(create(store, name, data) for name in (key, copy_of(key)))
