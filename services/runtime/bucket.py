"""Objects in an S3 bucket or in memory, through obstore.

Only obstore's synchronous calls are used: a process that exits right after asynchronous ones can abort.
"""

import os
from datetime import timedelta

import obstore
from obstore.exceptions import GenericError
from obstore.store import MemoryStore, S3Store


def open_s3(bucket: str, prefix: str) -> S3Store:
    """A bucket; endpoint, region and credentials come from the usual AWS_* environment."""
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")  # whoever writes http:// means it
    return S3Store(
        bucket,
        prefix=prefix or None,
        conditional_put="etag",
        client_options={
            "allow_http": plain,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=120),
        },
        # A caller waits, so give up in seconds where obstore's own defaults take three minutes.
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
    )


class Bucket:
    """The objects of one obstore store. Raises obstore's errors; `Store` translates."""

    def __init__(self, store: S3Store | MemoryStore) -> None:
        self._store = store

    def get(self, key: str) -> bytes:
        """The whole object."""
        return bytes(obstore.get(self._store, key).bytes())

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes [start, end), fewer where the object ends before."""
        try:
            return bytes(obstore.get_range(self._store, key, start=start, end=end))
        except GenericError:
            if obstore.head(self._store, key)["size"] > start:
                raise
            return b""  # a range that begins behind the end is an error there

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist; in one part, since parts cannot be conditional.

        A server that refuses a large body may drop the connection instead of answering, and obstore does not repeat
        conditional writes; so look whether that is what happened, and repeat once if not.
        """
        try:
            self._create(key, data)
        except GenericError:
            if self.exists(key):
                raise FileExistsError(key) from None
            self._create(key, data)

    def put(self, key: str, data: bytes) -> None:
        """Write an object in place of what may be there."""
        obstore.put(self._store, key, data)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        obstore.delete(self._store, key)

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly beneath a folder, in no order."""
        found = obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
        return [folder.rstrip("/").rsplit("/", 1)[-1] for folder in found]

    def list(self, prefix: str) -> list[str]:
        """The keys beneath a folder ("" or ending in "/"), in no order."""
        return list(self.list_times(prefix))

    def list_times(self, prefix: str) -> dict[str, float]:
        """When each object beneath a folder was written, seconds since 1970 by the server's clock."""
        entries = (entry for chunk in obstore.list(self._store, prefix or None) for entry in chunk)
        return {entry["path"]: entry["last_modified"].timestamp() for entry in entries}

    def read_time(self, key: str) -> float:
        """When an object was written, seconds since 1970 by the server's clock."""
        return obstore.head(self._store, key)["last_modified"].timestamp()

    def _create(self, key: str, data: bytes) -> None:
        obstore.put(self._store, key, data, mode="create", use_multipart=False)
