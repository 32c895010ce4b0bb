"""Tenants: which names of data sets and models a caller may see and touch."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.runtime.caller import Caller, current_caller
from services.runtime.errors import PermissionDenied

NAME_FIELDS = frozenset({"dataset", "detector", "classifier", "object_detector", "segmenter"})
"""A text field of one of these names, at any depth of a request, names a thing that belongs to a tenant."""

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}")
"""No dot, which separates a tenant from the rest of a name: so no tenant is part of another."""


def owns(caller: Caller, name: str) -> bool:
    """Whether the caller may see and touch what has that name, or is a version of it, as in name@7."""
    tenant = caller.tenant
    return not tenant or name.partition("@")[0] == tenant or name.startswith(f"{tenant}.")


def list_visible(names: Iterable[str]) -> list[str]:
    """The names that whoever is calling may see."""
    caller = current_caller()
    return [name for name in names if owns(caller, name)]


def check_names(caller: Caller, names: Iterable[str]) -> None:
    """Raises PermissionDenied when a name is not the caller's: in the same words whether it exists or not."""
    if not all(owns(caller, name) for name in names):
        raise deny_names(caller)


def deny_names(caller: Caller) -> PermissionDenied:
    """The error for a name that is not the caller's."""
    tenant = caller.tenant
    return PermissionDenied("TENANT", f"the caller's names are {tenant!r} and those that begin with '{tenant}.'")


def find_names(message: Message) -> Iterator[str]:
    """The names in a request, or in a frame of a stream; empty ones are left out, since services refuse them."""
    for path in _paths_of(message.DESCRIPTOR, ()):
        yield from _follow(message, path)


@cache
def _paths_of(descriptor: Descriptor, above: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The ways to all names of a kind of message; `above` are the messages it is part of."""
    paths: list[tuple[str, ...]] = []
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING and field.name in NAME_FIELDS:
            paths.append((field.name,))
        elif field.message_type is not None and field.message_type.full_name not in above:
            below = _paths_of(field.message_type, (*above, descriptor.full_name))
            paths += [(field.name, *path) for path in below]
    return tuple(paths)


def _follow(message: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - any kind of message
    first, *rest = path
    descriptor = message.DESCRIPTOR.fields_by_name[first]
    if not descriptor.is_repeated and descriptor.has_presence and not message.HasField(first):
        return
    value = getattr(message, first)
    for each in value if descriptor.is_repeated else (value,):
        if not rest:
            if each:
                yield each
        else:
            yield from _follow(each, tuple(rest))
