"""JSON objects that tell when a bit of them has changed, and of which a second copy is kept.

They are small, and what they describe is lost without them.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from services.runtime.errors import NotFound

Body = dict[str, Any]
_SEAL = "sha256"
_SEALED = re.compile(rb'"[0-9a-f]{64}"}$')


def seal(value: Body) -> bytes:
    """Returns a JSON object with the SHA-256 of all else in it, under the key "sha256"."""
    digest = hashlib.sha256(_write(value)).hexdigest()
    return _write({**value, _SEAL: digest})


def unseal(data: bytes) -> Body:
    """Returns what was sealed; one that was written before there were seals has none to break.

    Raises:
        ValueError: it is no JSON object, or not the one that was sealed.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - whoever reads it expects one error for all damage
    if _SEAL not in value and not _SEALED.search(data):
        return value
    value.pop(_SEAL, None)
    if seal(value) != data:
        raise ValueError("the seal is broken")
    return value


def copy_of(key: str) -> str:
    """Returns the key of the second copy of `<name>.json`, which is `<name>.copy`."""
    return f"{key.removesuffix('.json')}.copy"


def read_sealed(get: Callable[[str], bytes], key: str) -> Body:
    """Returns what was sealed under a key, or else under that of its copy.

    Raises:
        ValueError: both are damaged or gone.
    """
    for name in (key, copy_of(key)):
        with suppress(ValueError, NotFound):
            return unseal(get(name))
    raise ValueError(f"{key} and its copy are damaged or gone")


def _write(value: Body) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
