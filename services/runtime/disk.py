"""Objects as files: durable when a write returns, and never seen half-written.

obstore's local store promises neither a file nor a directory sync, so writing is done here. A new object is written to
a temporary file under `.tmp`, synced, and only then given its name: by a hard link where it must not exist yet (of many
writers the kernel lets one win), by a rename where it may. Last, every directory from the object's own up to the root
is synced, because a name is durable only when the directory that holds it is, and that directory's name in turn.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LITTER_AGE_S = 3600.0
"""A temporary file of that age belongs to a writer that died: no write lasts so long."""

PARENTS_VANISHED = 16
"""How often a write starts again because a deleter removed the folder it had just made."""


class Disk:
    """The objects beneath one directory. Raises OSError; `Store` translates."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"
        new = [folder for folder in (root, *root.parents) if not folder.exists()]
        self._temporary.mkdir(parents=True, exist_ok=True)
        for folder in new:
            _sync(folder.parent)
        self._sweep()

    def get(self, key: str) -> bytes:
        """The whole object."""
        return (self._root / key).read_bytes()

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes [start, end), fewer where the object ends before."""
        with (self._root / key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist: FileExistsError for everyone but one."""
        self._write(key, data, os.link)

    def put(self, key: str, data: bytes) -> None:
        """Write an object in place of what may be there."""
        self._write(key, data, os.replace)

    def delete(self, key: str) -> None:
        """Remove an object and the folders that it leaves empty; one that is not there is no error."""
        path = self._root / key
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # until a folder is not empty
            for folder in self._folders_above(path):
                folder.rmdir()
        self._sync_above(path)

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        return (self._root / key).is_file()

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly beneath a folder, in no order."""
        try:
            entries = list(os.scandir(self._root / prefix))
        except FileNotFoundError:
            return []
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]

    def list(self, prefix: str) -> list[str]:
        """The keys beneath a folder ("" or ending in "/"), in no order."""
        keys: list[str] = []
        for folder, folders, files in os.walk(self._root / prefix):
            folders[:] = [name for name in folders if not name.startswith(".")]
            above = Path(folder).relative_to(self._root)
            keys += [(above / name).as_posix() for name in files if not name.startswith(".")]
        return keys

    def list_times(self, prefix: str) -> dict[str, float]:
        """When each object beneath a folder was written, seconds since 1970."""
        times: dict[str, float] = {}
        for key in self.list(prefix):
            with contextlib.suppress(FileNotFoundError):  # a deleter was quicker
                times[key] = self.read_time(key)
        return times

    def read_time(self, key: str) -> float:
        """When an object was written, seconds since 1970."""
        return (self._root / key).stat().st_mtime

    def _write(self, key: str, data: bytes, publish: Callable[[Path, Path], None]) -> None:
        path = self._root / key
        with self._written(data) as temporary:
            for _ in range(PARENTS_VANISHED):
                try:
                    _make_folder(path.parent)
                    publish(temporary, path)
                except FileNotFoundError:  # a deleter took an empty folder away in between
                    continue
                return self._sync_above(path)
        raise TimeoutError

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        temporary = self._temporary / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _sync_above(self, path: Path) -> None:
        for folder in (*self._folders_above(path), self._root):
            with contextlib.suppress(FileNotFoundError):  # emptied and removed by a deleter
                _sync(folder)

    def _folders_above(self, path: Path) -> Iterator[Path]:
        for folder in path.parents:
            if folder == self._root:
                return
            yield folder

    def _sweep(self) -> None:
        oldest = time.time() - LITTER_AGE_S
        for entry in os.scandir(self._temporary):
            with contextlib.suppress(FileNotFoundError):  # its writer was quicker
                if entry.stat().st_mtime < oldest:
                    Path(entry.path).unlink()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        if folder.is_file():  # an object stands where a folder is needed
            raise NotADirectoryError from error
        raise FileNotFoundError from error  # it was there, and a deleter took it away before mkdir looked again


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
