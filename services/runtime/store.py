"""Where all state lives: immutable objects under keys, on a disk or in an S3 bucket.

Everything that several writers may want is built on one primitive, `create`: of any number of concurrent writers of a
key, exactly one creates it. A write that has returned is durable. All calls block; an event loop makes them in threads.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from obstore import exceptions
from obstore.store import MemoryStore

from services.runtime.bucket import Bucket, open_s3
from services.runtime.disk import Disk
from services.runtime.errors import AlreadyExists, DataLoss, InvalidArgument, MekikiError, NotFound, Unavailable
from services.runtime.logs import get_logger

SEGMENT = re.compile(r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]{0,199}")
"""One name between the slashes of a key. No leading dot: nothing climbs, and temporary files stay out of sight."""

KEY_LENGTH_LIMIT = 900
"""S3 allows 1,024 bytes; the store's own prefix needs some of them."""


class Objects(Protocol):
    """What a place for objects must do; keys are whole, and a prefix is "" or ends in "/"."""

    def get(self, key: str) -> bytes: ...  # noqa: D102 - see Store
    def get_range(self, key: str, start: int, end: int) -> bytes: ...  # noqa: D102
    def create(self, key: str, data: bytes) -> None: ...  # noqa: D102
    def put(self, key: str, data: bytes) -> None: ...  # noqa: D102
    def delete(self, key: str) -> None: ...  # noqa: D102
    def exists(self, key: str) -> bool: ...  # noqa: D102
    def folders(self, prefix: str) -> list[str]: ...  # noqa: D102
    def list(self, prefix: str) -> list[str]: ...  # noqa: D102
    def list_times(self, prefix: str) -> dict[str, float]: ...  # noqa: D102
    def read_time(self, key: str) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Store:
    """The objects beneath one prefix of a store.

    Every method raises Unavailable when the place behind it cannot be reached, and InvalidArgument for a key that is
    none: names of letters, digits and `._=+@-`, none beginning with a dot, joined by "/".
    """

    url: str
    """What `open` was given, so that another process can open the same."""
    objects: Objects
    prefix: str = ""
    """Empty, or ends in "/"."""

    @classmethod
    def open(cls, url: str) -> "Store":
        """Opens `file:///folder`, `s3://bucket/prefix` (with the usual AWS_* environment) or, for tests, `memory://`.

        A memory store is new and empty at every opening.
        """
        with _translated("store", url):
            return cls(url, _open(urlsplit(url)))

    def prefixed(self, prefix: str) -> "Store":
        """The part of this store beneath a folder."""
        return Store(self.url, self.objects, self._key(prefix) + "/")

    def get(self, key: str) -> bytes:
        """The whole object, or NotFound."""
        with _translated("object", key):
            return self.objects.get(self._key(key))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of an object: all of them, or NotFound, or DataLoss where it ends before `end`."""
        if not 0 <= start < end:
            raise InvalidArgument("range", f"must be 0 <= start < end, is [{start}, {end})")
        with _translated("object", key):
            data = self.objects.get_range(self._key(key), start, end)
        if len(data) < end - start:
            raise DataLoss(f"object {key!r} ends before byte {end}")
        return data

    def create(self, key: str, data: bytes) -> None:
        """Writes an object that must not exist yet: of many writers one wins, the others get AlreadyExists.

        After a lost connection even the winner may be told AlreadyExists or Unavailable; see `claim`.
        """
        with _translated("object", key):
            self.objects.create(self._key(key), data)

    def claim(self, key: str, data: bytes) -> bool:
        """Creates an object; True for the one winner, even if the network lost the answer on the way.

        `data` must be the caller's alone (hold a random token): by it the winner knows its object again.
        """
        try:
            self.create(key, data)
        except AlreadyExists:
            return self.get(key) == data
        except Unavailable:
            if not self.exists(key):
                raise
            return self.get(key) == data
        return True

    def put(self, key: str, data: bytes) -> None:
        """Writes an object in place of what may be there; a reader sees the old one or the new one."""
        with _translated("object", key):
            self.objects.put(self._key(key), data)

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        with _translated("object", key):
            self.objects.delete(self._key(key))

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        with _translated("object", key):
            return self.objects.exists(self._key(key))

    def folders(self, prefix: str = "") -> list[str]:
        """The sorted names of the folders directly beneath a folder."""
        with _translated("folder", prefix):
            return sorted(self.objects.folders(self._folder(prefix)))

    def list(self, prefix: str = "") -> list[str]:
        """The sorted keys of all objects beneath a folder, relative to this store; "" means all of this store."""
        with _translated("folder", prefix):
            keys = self.objects.list(self._folder(prefix))
        return sorted(key.removeprefix(self.prefix) for key in keys)

    def list_times(self, prefix: str = "") -> dict[str, float]:
        """When each object beneath a folder was written, by key as in `list`: seconds since 1970, the store's clock."""
        with _translated("folder", prefix):
            times = self.objects.list_times(self._folder(prefix))
        return {key.removeprefix(self.prefix): time_s for key, time_s in times.items()}

    def read_time(self, key: str) -> float:
        """When an object was written, seconds since 1970 by the store's clock, or NotFound."""
        with _translated("object", key):
            return self.objects.read_time(self._key(key))

    def _key(self, key: str) -> str:
        if not all(SEGMENT.fullmatch(segment) for segment in key.split("/")):
            raise InvalidArgument("key", f"must be names of letters, digits and ._=+@- joined by /, is {key!r}")
        if len(self.prefix) + len(key) > KEY_LENGTH_LIMIT:
            raise InvalidArgument("key", f"must have at most {KEY_LENGTH_LIMIT} characters with its prefix")
        return self.prefix + key

    def _folder(self, prefix: str) -> str:
        return self._key(prefix.removesuffix("/")) + "/" if prefix else self.prefix


def _open(url: SplitResult) -> Objects:
    if url.scheme == "file" and url.netloc in {"", "localhost"} and url.path.startswith("/"):
        return Disk(Path(unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        return Bucket(open_s3(url.netloc, url.path.strip("/")))
    if url.scheme == "memory":
        return Bucket(MemoryStore())
    raise InvalidArgument("store_url", f"must be file:///folder or s3://bucket/prefix, is {url.geturl()!r}")


@contextmanager
def _translated(kind: str, name: str) -> Iterator[None]:
    """The one place where errors of the operating system and of obstore become ours; their text goes to the log."""
    try:
        yield
    except MekikiError:
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(kind, name) from error
    except (FileExistsError, exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
        raise AlreadyExists(kind, name) from error
    except (OSError, exceptions.BaseError) as error:
        get_logger(kind=kind, name=name).warning("store failed", error=str(error).partition("\n")[0])
        raise Unavailable(f"the store {_complaint(error)}") from error


def _complaint(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "is full"
    if isinstance(error, PermissionError | exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return "refuses this service access"
    return "cannot be reached just now"
