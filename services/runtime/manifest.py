"""A numbered log of immutable manifests: the state of a thing is its newest one.

    <prefix>/00000000000000000001.json, ...02.json, ...     created once, never changed, never removed, no gaps
    <prefix>/00000000000000000001.copy                      the same once more, where copies are kept
    <prefix>/hint                                           a number that once was the newest; only a starting point

Whoever creates the next number wins; the others raise Conflict, read again and retry (`update`). Because there are no
gaps, the newest number is found from any earlier one by doubling steps, in O(log n) requests however many there are.
"""

import copy
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from services.runtime.errors import Conflict, DataLoss, InvalidArgument, NotFound, Unavailable
from services.runtime.sealed import copy_of, read_sealed, seal, unseal
from services.runtime.store import Store

Body = dict[str, Any]
"""What JSON can hold; the owner of the log gives it its meaning."""

HINT_EVERY = 16
"""Commits between two hints: a cold reader needs at most about eight steps from there."""

TRIES = 64
"""Attempts of `update` before it gives up; with 50 writers at once a handful is usual."""


@dataclass(frozen=True)
class Manifest:
    """One version. Number 0 with an empty body stands for "none yet"."""

    number: int
    body: Body


class ManifestLog:
    """The manifests beneath one folder of a store. Safe for any number of threads, processes and machines.

    With `has_copies` each is written twice, and a damaged one read from its copy.
    """

    def __init__(self, store: Store, prefix: str, *, has_copies: bool = False) -> None:
        self._store = store
        self._prefix = prefix
        self._has_copies = has_copies
        self._seen = 0  # a number known to exist; stale is fine, so threads need no lock

    def latest(self) -> Manifest:
        """The newest manifest. Raises DataLoss when it is damaged."""
        number = self._newest(self._start())
        if number == 0:
            return Manifest(0, {})
        self._seen = max(self._seen, number)
        return self.read(number)

    def read(self, number: int) -> Manifest:
        """One version, or NotFound. Raises DataLoss when it is damaged."""
        key = self.locate(number)
        try:
            if self._has_copies and self._store.exists(key):
                return Manifest(number, read_sealed(self._store.get, key)["body"])
            return Manifest(number, unseal(self._store.get(key))["body"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataLoss(f"manifest {number} of {self._prefix!r} is damaged") from error

    def as_of(self, time_s: float) -> Manifest:
        """The manifest that was the newest at a time, seconds since 1970 by the store's clock; number 0 where none was.

        Raises DataLoss when it is damaged.
        """
        low, high = 0, self._newest(self._start()) + 1
        while high - low > 1:  # they were created in the order of their numbers
            middle = (low + high) // 2
            if self._store.read_time(self.locate(middle)) <= time_s:
                low = middle
            else:
                high = middle
        return self.read(low) if low else Manifest(0, {})

    def commit(self, number: int, body: Body) -> Manifest:
        """Creates exactly that version, durable on return.

        Raises:
            Conflict: somebody else created it first.
            InvalidArgument: the version before it does not exist.
            Unavailable: the store did not answer; the version may or may not have been created.
        """
        if number < 1 or (number - 1 > self._seen and not self._store.exists(self.locate(number - 1))):
            raise InvalidArgument("number", f"must follow an existing version, is {number}")
        envelope = {"number": number, "writer": secrets.token_hex(16), "body": body}
        if not self._store.claim(self.locate(number), data := seal(envelope)):
            raise Conflict(f"version {number} of {self._prefix!r} was written by somebody else; read again and retry")
        if self._has_copies:
            with suppress(Unavailable):  # the commit stands
                self._store.put(copy_of(self.locate(number)), data)
        self._seen = max(self._seen, number)
        self._leave_hint(number)
        return Manifest(number, copy.deepcopy(body))

    def update(self, change: Callable[[Body], Body]) -> Manifest:
        """Commits `change(newest body)` as the next version, again from the start when somebody else was first.

        `change` may be called several times, may alter its argument and must have no other effect.
        Raises Conflict after 64 lost attempts, and whatever `change` raises.
        """
        for attempt in range(TRIES):
            latest = self.latest()
            try:
                return self.commit(latest.number + 1, change(latest.body))
            except Conflict:
                time.sleep(random.uniform(0, min(0.25, 0.002 * 2**attempt)))  # noqa: S311 - jitter, not a secret
        raise Conflict(f"{self._prefix!r} changes too often: {TRIES} attempts lost; retry later")

    def _start(self) -> int:
        """A number that exists, or 0."""
        if self._seen and self._store.exists(self.locate(self._seen)):
            return self._seen
        try:
            hint = int(self._store.get(f"{self._prefix}/hint"))
        except (NotFound, ValueError):
            return 0
        return hint if hint > 0 and self._store.exists(self.locate(hint)) else 0

    def _newest(self, start: int) -> int:
        """The last existing number, from one that exists: doubling steps forward, then halving."""
        low, step = start, 1
        while self._store.exists(self.locate(low + step)):
            low, step = low + step, step * 2
        high = low + step  # does not exist, while `low` does
        while high - low > 1:
            middle = (low + high) // 2
            if self._store.exists(self.locate(middle)):
                low = middle
            else:
                high = middle
        return low

    def _leave_hint(self, number: int) -> None:
        if number % HINT_EVERY == 0:
            try:
                self._store.put(f"{self._prefix}/hint", str(number).encode())
            except Unavailable:
                return  # the commit stands; a later one leaves the next hint

    def locate(self, number: int) -> str:
        """The key of a version in the store."""
        return f"{self._prefix}/{number:020d}.json"
